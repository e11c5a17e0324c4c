"""What every scenario of images keeps, so that the rest of kancl may rely on it."""

import inspect
import random
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch
from avalanche.benchmarks import CLScenario
from avalanche.benchmarks.scenarios import DatasetExperience
from avalanche.logging import BaseLogger
from avalanche.models import SimpleMLP, as_multitask
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive
from torch import nn

from kancl.benchmarks import SCENARIOS, Benchmark
from kancl.data.rows import as_tensors
from kancl.plugins.loop import TensorLoadingPlugin

IMAGES = {k: b for k, b in SCENARIOS.items() if k not in ("gaussian_peaks", "arrays")}
"""The others have options of their own, see tests/benchmarks."""
CASES = [
    (name, incremental)
    for name, build in IMAGES.items()
    for incremental in (
        ("class", "domain", "task")
        if "incremental" in inspect.signature(build).parameters
        else ("class",)
    )
]


def build(name: str, incremental: str, **options: Any) -> Benchmark:
    if name != "mnist":
        options["incremental"] = incremental
        options["n_experiences"] = 2
    return SCENARIOS[name](train_samples=40, test_samples=20, **options)


@pytest.mark.parametrize("name", IMAGES)
def test_options_are_keyword_only_typed_and_have_defaults(name: str) -> None:
    function = SCENARIOS[name]
    parameters = inspect.signature(function).parameters
    for parameter in parameters.values():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.annotation is not inspect.Parameter.empty
        assert parameter.default is not inspect.Parameter.empty
    assert {"dataset", "data_dir", "seed", "device", "normalize"} <= set(parameters)
    assert get_type_hints(function).keys() >= set(parameters)
    assert function.__doc__ and function.__doc__.splitlines()[0].endswith(".")


@pytest.mark.parametrize("name, incremental", CASES)
def test_streams_are_genuine_and_agree_with_info(name: str, incremental: str) -> None:
    benchmark = build(name, incremental, validation=0.2)
    info = benchmark.info
    assert isinstance(benchmark, CLScenario)
    assert (info.name, info.incremental) == (name, incremental)
    assert set(benchmark.streams) == {"train", "test", "validation"}
    for stream_name, stream in benchmark.streams.items():
        assert len(stream) == info.n_experiences
        assert stream.benchmark is benchmark
        for k, experience in enumerate(stream):
            assert isinstance(experience, DatasetExperience)
            assert experience.current_experience == k
            assert experience.origin_stream.name == stream_name
            x, y, task_labels = as_tensors(experience.dataset)
            assert x.shape == (len(experience.dataset), *info.image_shape)
            assert x.dtype == torch.float32
            low, high = info.input_range
            assert low <= x.min() and x.max() <= high
            assert y.dtype == task_labels.dtype == torch.int64
            assert y.tolist() == list(experience.dataset.targets)
            assert 0 <= y.min() and y.max() < info.n_outputs
            assert len(y.unique()) == len(info.experience_classes[k])
            assert y.unique().tolist() == experience.classes_in_this_experience
            assert experience.task_label == (k if info.head == "multi" else 0)
            assert task_labels.unique().tolist() == experience.task_labels
    assert info.in_features == info.image_shape[1] * info.image_shape[2]
    assert (info.head == "multi") == (incremental == "task")


@pytest.mark.parametrize("name", IMAGES)
def test_building_leaves_the_global_generators_alone(name: str) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    build(name, "class", validation=0.2)
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


@pytest.mark.parametrize("name", IMAGES)
def test_same_seed_same_bytes(name: str) -> None:
    first, again, other = (
        build(name, "class", validation=0.2, seed=seed) for seed in (3, 3, 4)
    )
    differs = False
    for stream in first.streams:
        for k in range(first.info.n_experiences):
            x, y, _ = as_tensors(first.streams[stream][k].dataset)
            same_x, same_y, _ = as_tensors(again.streams[stream][k].dataset)
            assert torch.equal(x, same_x) and torch.equal(y, same_y)
            other_x, _, _ = as_tensors(other.streams[stream][k].dataset)
            differs |= not torch.equal(x, other_x)
    assert differs


@pytest.mark.parametrize("name, incremental", CASES)
def test_a_stock_strategy_trains_on_it(name: str, incremental: str) -> None:
    benchmark = build(name, incremental, normalize="standard")
    info = benchmark.info
    model: nn.Module = SimpleMLP(info.n_outputs, info.in_features, 16, drop_rate=0)
    if info.head == "multi":
        model = as_multitask(model, "classifier")
    learner = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.03),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=8,
        train_epochs=8,
        eval_mb_size=16,
        evaluator=EvaluationPlugin(loggers=[BaseLogger()]),
        plugins=[TensorLoadingPlugin()],
    )
    for experience in benchmark.train_stream:
        learner.train(experience)
    learner.eval(benchmark.test_stream)
    x, y, task_labels = as_tensors(benchmark.train_stream[-1].dataset)
    scores = model(x, task_labels) if info.head == "multi" else model(x)
    accuracy = (scores.argmax(1) == y).float().mean().item()
    assert accuracy > 0.6  # the last experience's own images are learnt
