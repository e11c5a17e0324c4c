"""A run whose memory gives out says what to change; one that is over holds none."""

from __future__ import annotations

import gc
import re
import tracemalloc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin

from kancl.config import ConfigError, RunConfig
from kancl.plugins import Plugin, TrainingSetup
from kancl.runner.build import build
from kancl.runner.check import check
from kancl.runner.machine import is_out_of_memory
from kancl.runner.memory import needed
from kancl.runner.request.compose import read_request
from kancl.strategies import STRATEGIES

MakeRun = Callable[..., tuple[dict[str, Any], Path]]
Plant = Callable[[Callable[[], object]], None]


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Have something done after each step of ``strategy=naive``."""

    def planted(work: Callable[[], object]) -> None:
        class Planted(SupervisedPlugin):
            """Do the work after each step."""

            def after_update(self, strategy: Any, **kwargs: Any) -> None:
                work()

        monkeypatch.setitem(STRATEGIES, "naive", [*STRATEGIES["naive"], Planted])

    return planted


def too_much() -> object:
    return torch.empty(2**50, dtype=torch.uint8)


def of_a_gpu() -> object:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize("asks", [too_much, of_a_gpu])
def test_out_of_memory_is_said_with_what_to_change(
    make_run: MakeRun, plant: Plant, asks: Callable[[], object]
) -> None:
    plant(asks)
    summary, folder = make_run("training.batch_size=17", "evaluation.locality=true")
    assert summary["status"] == "failed"
    assert summary["error"].startswith(
        "out of memory; try training.batch_size below 17"
    )
    assert "evaluation.locality=false" in summary["error"]
    assert asks.__name__ in (folder / "error.txt").read_text()


def test_other_errors_are_not_taken_for_it() -> None:
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    assert not is_out_of_memory(ValueError("out of memory"))


@pytest.mark.parametrize("strategy", ["naive", "gram", "replay"])
def test_no_run_stays_in_memory(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    made: list[weakref.ref[torch.nn.Module]] = []

    class Noting(Plugin):
        """Note the network."""

        def prepare(self, setup: TrainingSetup) -> None:
            made.append(weakref.ref(setup.model))

    monkeypatch.setitem(STRATEGIES, strategy, [*STRATEGIES[strategy], Noting])
    for seed in range(2):
        words = "model=kan_local", "scenario.n_experiences=2"
        make_run(f"strategy={strategy}", f"seed={seed}", *words)
    gc.collect()
    assert len(made) == 2
    assert [ref() for ref in made] == [None, None]


GIB = 2**30


def one(*words: str) -> RunConfig:
    (config,) = read_request(words, sweep=False).configs
    return config


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kancl.runner.memory.free_memory", lambda _: 8 * GIB)


@pytest.mark.usefixtures("free")
@pytest.mark.parametrize(
    ("words", "culprit"),
    [
        ("model.grid_size=1000000", "model.grid_size=1000000"),
        ("model.grid_size=4000000000000000000", "model.grid_size=4"),
        ("model=kan_local model.input_grid_size=1000000", "model.input_grid_size=1"),
        ("model=mlp model.hidden=[9,100000000]", "model.hidden=[9,100000000]"),
        (
            "model=mlp match=params model.grid_size=1000000",
            "match_to.grid_size=1000000",
        ),
        ("model.hidden=[1000000] model.grid_size=1000000", "model.hidden=[1000000]"),
        ("scenario.pad=1000", "scenario.pad=1000"),
        ("scenario.pad=10000000000000000", "scenario.pad=10000000000000000"),
        (
            "scenario=rotated_mnist scenario.n_experiences=900",
            "scenario.n_experiences=900",
        ),
        ("scenario=gaussian_peaks scenario.n_points=1000000000", "scenario.n_points=1"),
        (
            "scenario=mnist model=mlp model.hidden=[60000] training.batch_size=60000",
            "training.batch_size=60000",
        ),
        (
            "training.iterations=1000000000 evaluation.points_per_experience=1000000000",
            "",
        ),
        (
            "scenario=permuted_mnist scenario.n_experiences=1000 "
            "evaluation.locality=true model.hidden=[10000]",
            "model.hidden=[10000]",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_key_at_fault(
    words: str, culprit: str
) -> None:
    config = one(*words.split())
    tracemalloc.start()
    with pytest.raises(ConfigError) as error:
        build(config)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    said = str(error.value)
    assert said.startswith(culprit) and "GiB of memory or more, and 8.0 GiB" in said
    assert peak < 50e6
    better = said.partition("nearest: ")[2].split()
    assert needed(one(*words.split(), *better)) <= 4 * GIB
    for word in better:  # twice as much would not leave half of the memory free
        key, _, value = word.partition("=")
        larger = re.sub(r"\d+", lambda n: str(2 * int(n[0])), value)
        assert needed(one(*words.split(), *better, f"{key}={larger}")) > 4 * GIB


def test_a_run_needs_what_it_is_made_of() -> None:
    small = "scenario.train_samples=20", "scenario.test_samples=10"
    config = one(*small, "model.hidden=[100]", "optimizer=adam")
    n = build(config).size.n_parameters
    assert 16 * n < needed(config) < 16 * n + 1.1 * (70_000 * 784 * 2) + 10**6
    assert needed(one(*small)) < needed(one(*small, "model.grid_size=6"))
    for words in (
        "training.batch_size=1000000000",
        "scenario.train_samples=1000000000",
    ):
        build(one(*small[1:], "scenario.test_samples=10", words))


def test_own_arrays_are_estimated_once_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = np.eye(10, 3_000, dtype=np.float32), np.arange(10) % 5
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    words = "scenario=arrays", f"scenario.file='{tmp_path / 'a.npz'}'", "model=mlp"
    free = 2**25
    monkeypatch.setattr("kancl.runner.memory.free_memory", lambda _: free)
    build(one(*words, "model.hidden=[100]"))
    with pytest.raises(ConfigError, match=r"model.hidden=\[1000\] takes 0.0 GiB"):
        build(one(*words, "model.hidden=[1000]"))


MANY = "strategy.n_features=2000000000"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (
            ["strategy=ridge_readout", "strategy.n_features=9000"],
            r"sum over products of 9,001 features takes 3\.0 GiB .* 1\.0 GiB are free: "
            "set strategy.n_features=5181 or less",
        ),
        (
            [
                "strategy=ridge_readout",
                "strategy.features=network",
                "model.hidden=[9000]",
            ],
            "products of 9,001 features .* strategy=nearest_mean instead",
        ),
        (
            ["strategy=nearest_mean", "strategy.features=patches", MANY],
            "network of 2,000,000,000 features .* set strategy.n_features=",
        ),
        (
            ["strategy=nearest_mean", "strategy.features=conv", MANY],
            "network of 2,000,000,000 features .* set strategy.n_features=",
        ),
        (
            [
                "strategy=nearest_mean",
                "strategy.features=conv",
                "strategy.n_features=9000",
                "training.eval_batch_size=1000",
            ],
            r"network of 9,000 features takes [23]\.\d GiB .* set strategy.n_features=",
        ),
        (
            ["strategy=owm", "model.hidden=[20000]"],
            r"past features takes 3\.0 GiB .* strategy.block_size to 1000 or less",
        ),
        (
            ["strategy=owm", "model.hidden=[20000]", "strategy.block_size=9999"],
            r"past features takes 1\.5 GiB .* a smaller strategy.block_size",
        ),
    ],
)
def test_a_matrix_over_features_that_does_not_fit_is_refused(
    monkeypatch: pytest.MonkeyPatch, words: list[str], error: str
) -> None:
    monkeypatch.setattr("kancl.data.checks.free_memory", lambda device: GIB)
    small = "scenario.train_samples=100", "scenario.test_samples=100"
    with pytest.raises(ConfigError, match=error):
        check([one(*words, "model=mlp", "optimizer=sgd", *small)])
