"""kancl's data path against stock Avalanche: the same bits, strategy by strategy.

Oracle: Avalanche's own ``nc_benchmark`` over an ordinary data set that hands out one PIL
image at a time, with Avalanche's own loaders. Neither side is told an order of samples;
kancl's benchmarks stand in the order that ``nc_benchmark`` produces.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.benchmarks.utils import DefaultTransformGroups, make_avalanche_dataset
from avalanche.benchmarks.utils.classification_dataset import (
    _make_taskaware_classification_dataset,
)
from avalanche.benchmarks.utils.data_loader import TaskBalancedDataLoader
from avalanche.evaluation.metrics import accuracy_metrics, loss_metrics
from avalanche.logging import BaseLogger
from avalanche.models import IncrementalClassifier, as_multitask
from avalanche.training import supervised
from avalanche.training.determinism.rng_manager import RNGManager
from avalanche.training.plugins import (
    EvaluationPlugin,
    ReplayPlugin,
    SupervisedPlugin,
)
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms import Compose, Normalize, ToTensor

from kancl.benchmarks import Benchmark, permuted_mnist, split_mnist
from kancl.benchmarks.plans import pixel_order
from kancl.data.images import load_images
from kancl.data.rows import as_tensors, resolve_rows
from kancl.plugins.loop import TensorLoadingPlugin

BATCH = 16


class PlainImages(Dataset):
    """As torchvision's MNIST: a PIL image, transformed, and its label at a time."""

    def __init__(self, images: Tensor, labels: Tensor, transform: Callable) -> None:
        self.targets = labels.tolist()
        self.images = [transform(Image.fromarray(image.numpy())) for image in images]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], self.targets[index]


class Permute:
    """As in Avalanche's PermutedMNIST: reorder one image's pixels."""

    def __init__(self, order: Tensor) -> None:
        self.order = order

    def __call__(self, image: Tensor) -> Tensor:
        return image.reshape(-1)[self.order].view(image.shape)


def plain(benchmark: Benchmark, stream: str, experiences: list[int]) -> Dataset:
    """The untouched images of these experiences, in the data set's own order."""
    mnist = load_images()
    images = torch.cat([mnist.train_x, mnist.test_x]).squeeze(1)
    labels = torch.cat([mnist.train_labels, mnist.test_labels])
    datasets = [benchmark.streams[stream][k].dataset for k in experiences]
    found = resolve_rows(datasets)
    assert found is not None
    rows = found.rows.sort().values
    transform = Compose([ToTensor(), Normalize((0.1307,), (0.3081,))])
    return PlainImages(images[rows], labels[rows], transform)


def stock_split(ours: Benchmark) -> Any:
    info = ours.info
    everything = list(range(info.n_experiences))
    return nc_benchmark(
        plain(ours, "train", everything),
        plain(ours, "test", everything),
        n_experiences=info.n_experiences,
        task_labels=info.incremental == "task",
        fixed_class_order=[c for group in info.experience_classes for c in group],
        class_ids_from_zero_in_each_exp=info.incremental != "class",
    )


def stock_permuted(ours: Benchmark, seed: int) -> Any:
    info = ours.info

    def permuted(stream: str, k: int) -> Any:
        order = torch.arange(784) if k == 0 else pixel_order(seed, k, 784)
        dataset = _make_taskaware_classification_dataset(plain(ours, stream, [k]))
        return make_avalanche_dataset(
            dataset,
            frozen_transform_groups=DefaultTransformGroups((Permute(order), None)),
        )

    return nc_benchmark(
        [permuted("train", k) for k in range(info.n_experiences)],
        [permuted("test", k) for k in range(info.n_experiences)],
        n_experiences=info.n_experiences,
        task_labels=info.incremental == "task",
        shuffle=False,
        class_ids_from_zero_in_each_exp=info.incremental != "class",
        one_dataset_per_exp=True,
    )


@pytest.fixture(scope="module")
def split() -> tuple[Benchmark, Any]:
    ours = split_mnist(
        n_experiences=5,
        class_order="random",
        normalize="standard",
        train_samples=40,
        test_samples=12,
        seed=4,
    )
    return ours, stock_split(ours)


@pytest.fixture(scope="module")
def permuted() -> tuple[Benchmark, Any]:
    # four experiences: in the last, Python's set order of 30..39 is not ascending
    ours = permuted_mnist(
        n_experiences=4, normalize="standard", train_samples=40, test_samples=12, seed=2
    )
    return ours, stock_permuted(ours, seed=2)


class Network(nn.Module):
    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(784, 12), nn.ReLU())
        self.dropout = nn.Dropout(0.2)  # draws from the same stream as the loaders
        self.classifier = nn.Linear(12, n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.dropout(self.features(x)))


STRATEGIES: dict[str, tuple[str, dict[str, Any]]] = {
    "naive": ("Naive", {}),
    "joint": ("JointTraining", {}),
    "cumulative": ("Cumulative", {}),
    "from_scratch": ("FromScratchTraining", {}),
    "replay": ("Replay", {"mem_size": 30}),
    "ewc": ("EWC", {"ewc_lambda": 0.5}),
    "ewc_online": ("EWC", {"ewc_lambda": 0.5, "mode": "online", "decay_factor": 0.5}),
    "lwf": ("LwF", {"alpha": 1.0, "temperature": 2.0}),
    "si": ("SynapticIntelligence", {"si_lambda": 1.0}),
    "mas": ("MAS", {"lambda_reg": 0.1}),
    "agem": ("AGEM", {"patterns_per_exp": 20, "sample_size": 16}),
    "gem": ("GEM", {"patterns_per_exp": 20}),
    "er_ace": ("ER_ACE", {"mem_size": 40, "batch_size_mem": 8}),
    "der": ("DER", {"mem_size": 40, "batch_size_mem": 8}),
    "gdumb": ("GDumb", {"mem_size": 40}),
    "mir": ("MIR", {"mem_size": 40, "subsample": 24, "batch_size_mem": 8}),
}


def train_and_evaluate(
    benchmark: Any, strategy: str, options: dict[str, Any], model: nn.Module, swap: bool
) -> tuple[dict[str, Tensor], dict[str, Any], list[str]]:
    RNGManager.set_random_seeds(7)
    torch.manual_seed(7)
    evaluator = EvaluationPlugin(
        accuracy_metrics(minibatch=True, epoch=True, experience=True, stream=True),
        loss_metrics(minibatch=True, epoch=True, experience=True, stream=True),
        loggers=[BaseLogger()],
    )
    loaders: list[str] = []

    class Spy(TensorLoadingPlugin):
        def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
            super().before_training_epoch(strategy, **kwargs)
            loaders.append(type(strategy.dataloader).__name__)

        def before_eval_exp(self, strategy: Any, **kwargs: Any) -> None:
            super().before_eval_exp(strategy, **kwargs)
            loaders.append(type(strategy.dataloader).__name__)

    learner = getattr(supervised, strategy)(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.5),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=BATCH,
        train_epochs=2,
        eval_mb_size=8,
        evaluator=evaluator,
        plugins=[Spy()] if swap else [],
        **options,
    )
    if strategy == "JointTraining":
        learner.train(benchmark.train_stream)
        learner.eval(benchmark.test_stream)
    else:
        for k, experience in enumerate(benchmark.train_stream):
            learner.train(experience)
            if k in (1, len(benchmark.train_stream) - 1):
                learner.eval(benchmark.test_stream)
    return learner.model.state_dict(), evaluator.get_all_metrics(), loaders


def assert_same_bits(
    ours: Any, stock: Any, strategy: str, options: dict[str, Any], build: Callable
) -> None:
    torch.manual_seed(0)
    model = build()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    left, left_metrics, loaders = train_and_evaluate(
        ours, strategy, options, model, swap=True
    )
    torch.manual_seed(0)
    right, right_metrics, _ = train_and_evaluate(
        stock, strategy, options, build(), swap=False
    )
    assert set(loaders) == {"WholeBatchLoader"}
    assert any(not torch.equal(left[name], start[name]) for name in start)
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name
    assert left_metrics == right_metrics
    assert len(left_metrics) > 4


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # stock SI
@pytest.mark.parametrize("name", STRATEGIES)
def test_split_gives_the_bits_of_stock_avalanche(name: str, split: Any) -> None:
    strategy, options = STRATEGIES[name]
    assert_same_bits(*split, strategy, options, lambda: Network(10))


def in_turn(names: list[str], turn: int) -> list[Any]:
    """Every second strategy by default, all of them under ``proof``."""
    return [
        pytest.param(name, marks=[pytest.mark.proof] * (place % 2 != turn))
        for place, name in enumerate(names)
    ]


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
@pytest.mark.parametrize("name", in_turn([*STRATEGIES], 0))
def test_permuted_gives_the_bits_of_stock_avalanche(name: str, permuted: Any) -> None:
    strategy, options = STRATEGIES[name]
    assert_same_bits(*permuted, strategy, options, lambda: Network(10))


MULTI_HEAD = [name for name in STRATEGIES if name != "der"]  # fails on stock Avalanche


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
@pytest.mark.parametrize("name", in_turn(MULTI_HEAD, 1))
def test_multi_head_gives_the_bits_of_stock_avalanche(name: str) -> None:
    ours = split_mnist(
        n_experiences=2,
        incremental="task",
        class_order="random",
        normalize="standard",
        train_samples=48,
        test_samples=20,
        seed=1,
    )
    strategy, options = STRATEGIES[name]
    assert_same_bits(
        ours,
        stock_split(ours),
        strategy,
        options,
        lambda: as_multitask(Network(5), "classifier"),
    )


class GrowingNetwork(Network):
    def __init__(self) -> None:
        super().__init__(2)
        self.classifier = IncrementalClassifier(12, 2)


@pytest.mark.parametrize("incremental", ["class", "domain"])
def test_growing_head_gives_the_bits_of_stock_avalanche(incremental: str) -> None:
    ours = split_mnist(
        incremental=incremental, normalize="standard", train_samples=40, test_samples=20
    )
    options = {"mem_size": 20}
    assert_same_bits(ours, stock_split(ours), "Replay", options, GrowingNetwork)


def test_samples_are_those_of_avalanches_own_split(split: Any) -> None:
    ours, stock = split
    for stream in ("train", "test"):
        for mine, theirs in zip(ours.streams[stream], stock.streams[stream]):
            x, y, task_labels = as_tensors(mine.dataset)
            slow_x, slow_y, slow_task_labels = as_tensors(theirs.dataset)
            assert resolve_rows([theirs.dataset]) is None
            assert torch.equal(x, slow_x)
            assert torch.equal(y, slow_y)
            assert torch.equal(task_labels, slow_task_labels)
            assert set(mine.classes_in_this_experience) == set(
                theirs.classes_in_this_experience
            )
            assert list(mine.task_labels) == list(theirs.task_labels)


def naive(
    benchmark: Any, plugins: list[Any], epochs: int = 1, dropout: float = 0.2
) -> Any:
    model = Network(10)
    model.dropout.p = dropout
    return supervised.Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.01),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=BATCH,
        train_epochs=epochs,
        evaluator=EvaluationPlugin(loggers=[BaseLogger()]),
        plugins=plugins,
    )


class Batches(SupervisedPlugin):
    """Keeps the targets of every training batch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[list[int]] = []

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.seen.append(strategy.mb_y.tolist())


def test_iterations_are_counted_exactly_in_full_batches(split: Any) -> None:
    ours, _ = split
    batches = Batches()
    learner = naive(ours, [TensorLoadingPlugin(iterations=7), batches])
    learner.train(ours.train_stream[0])
    assert [len(batch) for batch in batches.seen] == [BATCH] * 7
    assert learner.clock.train_iterations == 7
    # 40 images give two full batches of 16, drawn without repetition
    counts = torch.tensor(sum(batches.seen[:2], [])).unique(return_counts=True)[1]
    assert counts.max() <= 20


def test_order_of_iterations_does_not_depend_on_what_the_model_draws(
    split: Any,
) -> None:
    ours, _ = split
    orders = []
    for dropout in (0.0, 0.5):
        torch.manual_seed(3)
        batches = Batches()
        learner = naive(
            ours, [TensorLoadingPlugin(iterations=9), batches], dropout=dropout
        )
        torch.manual_seed(5)
        learner.train(ours.train_stream[0])
        orders.append(batches.seen)
    assert orders[0] == orders[1]
    assert orders[0][:2] != orders[0][2:4]


def test_iterations_with_replay_keep_the_replayed_share(split: Any) -> None:
    ours, _ = split
    batches = Batches()
    # replay comes after our plugin, and the buffer is smaller than its share
    learner = naive(
        ours,
        [
            TensorLoadingPlugin(iterations=5),
            ReplayPlugin(mem_size=10, batch_size_mem=12),
            batches,
        ],
    )
    learner.train(ours.train_stream[0])
    first_classes = set(batches.seen[0])
    learner.train(ours.train_stream[1])
    second = batches.seen[5:]
    assert [len(batch) for batch in second] == [BATCH + 10] * 5
    for batch in second:
        assert sum(target in first_classes for target in batch) == 10


def test_iterations_work_on_other_data_too(split: Any) -> None:
    _, stock = split
    batches = Batches()
    learner = naive(stock, [TensorLoadingPlugin(iterations=4), batches])
    learner.train(stock.train_stream[0])
    assert [len(batch) for batch in batches.seen] == [BATCH] * 4


def test_iterations_and_epochs_exclude_each_other(split: Any) -> None:
    learner = naive(split[0], [TensorLoadingPlugin(iterations=4)], epochs=2)
    with pytest.raises(ValueError, match="train_epochs=2: set one of them only"):
        learner.train(split[0].train_stream[0])
    with pytest.raises(ValueError, match="iterations=0 must be at least 1"):
        TensorLoadingPlugin(iterations=0)


def test_other_data_are_left_to_avalanche(split: Any) -> None:
    _, stock = split
    learner = naive(stock, [TensorLoadingPlugin()])
    kinds: list[type] = []

    class Spy(SupervisedPlugin):
        def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            kinds.append(type(strategy.dataloader))

    learner.plugins.append(Spy())
    learner.train(stock.train_stream[0])
    assert set(kinds) == {TaskBalancedDataLoader}
