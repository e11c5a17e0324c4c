"""Data of one's own as benchmarks, against the arrays they came from and stock Avalanche."""

from typing import Any

import numpy as np
import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets, nc_benchmark
from avalanche.benchmarks.utils import AvalancheDataset
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

from kancl.benchmarks import Benchmark, from_arrays, from_avalanche, from_datasets
from kancl.data.rows import as_tensors
from kancl.runner.build import build, build_strategy
from kancl.runner.request.compose import read_request

RNG = np.random.default_rng(0)
LABELS = np.arange(84) % 7
UNEVEN = [[0, 1, 2], [3, 4], [5, 6]]
FLAT = RNG.random((84, 20))
COLOUR = RNG.integers(0, 256, (84, 32, 32, 3), dtype=np.uint8)


class Pairs(Dataset):
    """Any torch data set: samples and labels, one by one."""

    def __init__(self, x: Any, y: Any = LABELS) -> None:
        self.x, self.targets = x, y.tolist()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.x[index], self.targets[index]


def arrays(x: Any = FLAT, y: Any = LABELS, **options: Any) -> Benchmark:
    return from_arrays(x, y, x, y, **{"experiences": UNEVEN, **options})


def test_an_uneven_split_holds_the_samples_of_its_classes() -> None:
    benchmark = arrays()
    assert benchmark.info.experience_classes == ((0, 1, 2), (3, 4), (5, 6))
    assert (benchmark.info.n_outputs, benchmark.info.in_features) == (7, 20)
    for stream in benchmark.streams.values():
        for experience, classes in zip(stream, UNEVEN):
            x, y, _ = as_tensors(experience.dataset)
            assert experience.classes_in_this_experience == classes
            expected = np.concatenate([FLAT[LABELS == c] for c in classes])
            assert np.array_equal(x.numpy(), expected.astype(np.float32))
            assert y.tolist() == sorted(LABELS[np.isin(LABELS, classes)])
    low, high = benchmark.info.input_range
    assert (low, high) == (np.float32(FLAT.min()), np.float32(FLAT.max()))


@pytest.mark.parametrize("incremental", ["domain", "task"])
def test_later_experiences_may_be_wider_than_the_first(incremental: str) -> None:
    wide = [[0, 1], [2, 3, 4], [5, 6]]
    benchmark = arrays(experiences=wide, incremental=incremental)
    assert benchmark.info.n_outputs == 3
    for k, experience in enumerate(benchmark.test_stream):
        _, y, task_labels = as_tensors(experience.dataset)
        assert y.unique().tolist() == list(range(len(wide[k])))
        assert task_labels.unique().tolist() == [k if incremental == "task" else 0]


def test_both_orders_of_channels_give_the_same_images() -> None:
    last = arrays(COLOUR, channels="last", normalize="standard")
    first = arrays(
        torch.from_numpy(COLOUR).movedim(3, 1), channels="first", normalize="standard"
    )
    assert last.info == first.info
    assert last.info.in_features == 3072 and last.info.image_shape == (3, 32, 32)
    pixels = COLOUR.transpose(0, 3, 1, 2) / 255
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
    expected = (pixels - mean[:, None, None]) / std[:, None, None]
    for k, classes in enumerate(UNEVEN):
        x, _, _ = as_tensors(last.train_stream[k].dataset)
        assert torch.equal(x, as_tensors(first.train_stream[k].dataset)[0])
        own = np.concatenate([expected[LABELS == c] for c in classes])
        assert np.allclose(x.numpy(), own, atol=1e-5)
    with pytest.raises(ValueError, match="say where its channels stand"):
        arrays(COLOUR)


@pytest.mark.parametrize("normalize", ["none", "unit", "standard"])
def test_features_are_scaled_one_by_one(normalize: str) -> None:
    x = FLAT * np.arange(20) - 3  # the first never varies
    benchmark = arrays(x, experiences=1, normalize=normalize)
    found = as_tensors(benchmark.train_stream[0].dataset)[0].double().numpy()
    in_order = np.argsort(LABELS, kind="stable")
    expected = x[in_order]
    if normalize == "unit":
        assert found[:, 1:].min(0) == pytest.approx(np.full(19, -1), abs=1e-6)
        assert found[:, 1:].max(0) == pytest.approx(np.full(19, 1), abs=1e-6)
        spread = x.max(0) - x.min(0)
        spread[0] = 2
        expected = 2 * (expected - (x.max(0) + x.min(0)) / 2) / spread
    elif normalize == "standard":
        std = x.std(0)
        std[0] = 1
        expected = (expected - x.mean(0)) / std
    assert np.allclose(found, expected, atol=1e-5)
    low, high = benchmark.info.input_range
    assert (low, high) == (found.min(), found.max())


def test_a_data_set_is_read_as_its_arrays_are() -> None:
    ours = arrays(COLOUR, channels="last")
    images = [Image.fromarray(x) for x in COLOUR]
    for x, options in ((images, {}), (COLOUR, {"channels": "last"})):
        pairs = Pairs(x)
        theirs = from_datasets(pairs, pairs, experiences=UNEVEN, **options)
        for stream in ours.streams:
            for one, other in zip(ours.streams[stream], theirs.streams[stream]):
                for left, right in zip(*map(as_tensors, (one.dataset, other.dataset))):
                    assert torch.equal(left, right)


def domains(n: int = 3) -> list[TensorDataset]:
    return [TensorDataset(torch.rand(8, 5), torch.arange(8) % 4) for _ in range(n)]


@pytest.mark.parametrize("incremental", ["domain", "class", "task"])
def test_of_a_list_each_data_set_is_an_experience(incremental: str) -> None:
    train, test = domains(), domains()
    benchmark = from_datasets(train, test, incremental=incremental)
    for given, stream in ((train, "train"), (test, "test")):
        for k, experience in enumerate(benchmark.streams[stream]):
            x, y, task_labels = as_tensors(experience.dataset)
            order = torch.argsort(given[k].tensors[1], stable=True)
            assert torch.equal(x, given[k].tensors[0][order])
            assert torch.equal(y, given[k].tensors[1][order])
            assert set(task_labels.tolist()) == {k if incremental == "task" else 0}


def bad_lists() -> list[tuple[Any, Any, str]]:
    good, empty = domains(1)[0], TensorDataset(torch.rand(0, 5), torch.rand(0))
    wide = TensorDataset(torch.rand(8, 6), torch.arange(8) % 4)
    other = TensorDataset(torch.rand(8, 5), torch.arange(8) % 4 + 1)
    alone = TensorDataset(torch.rand(8, 5))
    return [
        ([good], good, "both be data sets, or both lists"),
        ([good, good], [good], "train lists 2 and test 1 data sets"),
        ([], [], "train lists 0"),
        ([good, empty], [good, good], r"train\[1\] is empty"),
        ([good, wide], [good, good], r"sample 0 of train\[1\] is \(6,\).*\(5,\)"),
        ([good, good], [good, other], "class 4 is in y_test but not in y_train"),
        (
            [good, other],
            [other, good],
            r"class 4 is in test\[0\] but not in train\[0\]",
        ),
        (alone, alone, "sample 0 of train is no pair"),
        (
            Pairs(FLAT, np.eye(84)),
            good,
            "the label of sample 0 of train is not one class",
        ),
    ]


@pytest.mark.parametrize("train, test, message", bad_lists())
def test_data_sets_that_do_not_fit_are_refused(
    train: Any, test: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        from_datasets(train, test)


BAD_STREAMS = [
    (
        {"experiences": 3},
        r"n_experiences=3 cannot share out 7 classes evenly.*\[1, 7\]",
    ),
    ({"experiences": [[0, 1], []]}, "experience 2 has no classes"),
    ({"experiences": [[0, 1], [7]]}, "classes names 7, and there are 7: 0 to 6"),
    ({"experiences": [[0, 1], [-1]]}, "classes names -1"),
    ({"experiences": [[0, 1, 0]]}, "experience 1 names class 0 twice"),
    ({"experiences": [[0]] * 1001}, "classes makes 1,001 experiences"),
    ({"experiences": []}, "classes lists no experience"),
    ({"experiences": 0}, "n_experiences=0 must be a whole number, 1 or more"),
    ({"experiences": 2.5}, "n_experiences=2.5 must be a whole number"),
    (
        {"experiences": [[0, 1], [1, 2]], "incremental": "domain"},
        "class 1 would be output 1 in experience 1 and output 0 in experience 2",
    ),
    ({"class_order": [0, 1, 1]}, "class_order=.0, 1, 1. must name classes"),
    ({"class_order": [7]}, "class_order=.7. must name classes between 0 and 6"),
    ({"blurry_boundaries": 1.0}, "blurry_boundaries=1.0 must be a share"),
    ({"blurry_boundaries": 0.1, "incremental": "task"}, "incremental=class or domain"),
    ({"blurry_boundaries": 0.1, "experiences": 1}, "needs several experiences"),
    ({"normalise": "unit"}, "option='normalise' is unknown.*Did you mean 'normalize'?"),
    ({"n_experiences": 3}, "option='n_experiences' .*Did you mean 'experiences'"),
    ({"incremental": "clas"}, "incremental='clas' is unknown"),
    ({"batches_per_experience": 0}, "batches_per_experience=0 .*1 or more"),
]


@pytest.mark.parametrize("options, message", BAD_STREAMS)
def test_streams_that_cannot_be_are_refused(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        arrays(**options)
    pairs = Pairs(torch.from_numpy(FLAT).float())
    with pytest.raises(ValueError, match=message):
        from_datasets(pairs, pairs, **{"experiences": UNEVEN, **options})


def test_a_stock_benchmark_without_classes_is_refused() -> None:
    data = AvalancheDataset([TensorDataset(torch.rand(6, 4), torch.arange(6))])
    benchmark = benchmark_from_datasets(train=[data], test=[data])
    with pytest.raises(ValueError, match="no targets: give them classes"):
        from_avalanche(benchmark)


def test_a_stock_benchmark_stays_as_it_is() -> None:
    tensors = Pairs(torch.from_numpy(FLAT).float())
    stock = nc_benchmark(tensors, tensors, 7, task_labels=False, shuffle=False)
    described = from_avalanche(stock)
    assert described is stock
    ours = arrays(experiences=7, name="avalanche").info
    assert described.info.experience_classes == ours.experience_classes
    assert described.info.input_range == ours.input_range
    assert (described.info.n_outputs, described.info.image_shape) == (7, (20,))
    assert (described.info.head, described.info.incremental) == ("single", "class")
    by_task = nc_benchmark(
        *(tensors, tensors, 7, True), class_ids_from_zero_in_each_exp=True
    )
    info = from_avalanche(by_task).info
    assert (info.head, info.incremental, info.n_outputs) == ("multi", "task", 1)


def test_a_stock_benchmark_of_pictures_needs_a_transform() -> None:
    images = Pairs([Image.fromarray(x) for x in COLOUR])
    with pytest.raises(
        ValueError, match="samples of the benchmark are Image, not tens"
    ):
        from_avalanche(nc_benchmark(images, images, 7, task_labels=False))
    with pytest.raises(ValueError, match="the benchmark has no test stream"):
        from_avalanche(
            benchmark_from_datasets(train=[arrays().train_stream[0].dataset])
        )


SIX = {"naive": [], "replay": [], "ewc": [], "lwf": [], "er_ace": []}
SIX |= {"gram": ["strategy.structure=blocks"]}


def trained(benchmark: Any, strategy: str, model: str) -> list[torch.Tensor]:
    words = [f"strategy={strategy}", f"model={model}", "model.hidden=[6]", "seed=3"]
    words += ["training.batch_size=8", *SIX[strategy]]
    (config,) = read_request(words, sweep=False).configs
    parts = build(config, benchmark)
    learner = build_strategy(config, parts)
    for experience in benchmark.train_stream:
        learner.train(experience)
    learner.eval(benchmark.test_stream)
    return [p.detach() for p in parts.model.parameters()]


@pytest.mark.parametrize("strategy", SIX)
def test_strategies_learn_the_same_from_our_streams_and_stock_ones(
    strategy: str,
) -> None:
    ours = arrays(experiences=7)
    tensors = Pairs(torch.from_numpy(FLAT).float())
    stock = nc_benchmark(tensors, tensors, 7, task_labels=False, shuffle=False)
    pairs = zip(*(trained(b, strategy, "kan") for b in (ours, from_avalanche(stock))))
    assert all(torch.equal(left, right) for left, right in pairs)


@pytest.mark.proof
@pytest.mark.parametrize("strategy", SIX)
def test_strategies_train_on_colour_images_and_on_lists(strategy: str) -> None:
    for benchmark in (
        arrays(COLOUR, channels="last"),
        arrays(COLOUR.transpose(0, 3, 1, 2), channels="first"),
        from_datasets(domains(), domains(), incremental="domain"),
    ):
        for parameter in trained(benchmark, strategy, "kan"):
            assert parameter.isfinite().all()
