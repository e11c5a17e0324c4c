"""Trainings and whole runs of kancl beside those of stock Avalanche."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import numpy as np
import torch
from avalanche.benchmarks.classic import SplitMNIST
from avalanche.evaluation.metrics import accuracy_metrics, loss_metrics
from avalanche.logging import BaseLogger, TensorboardLogger
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive
from torch import Tensor, nn

from kancl.bench.harness import Prepare, Rows, Step, finished_run, take_turns
from kancl.bench.layers import load_efficient_kan
from kancl.benchmarks import split_mnist
from kancl.data.images import load_images
from kancl.data.rows import as_tensors
from kancl.models import KAN, MLP
from kancl.models.cost import n_parameters
from kancl.observe.recorder import RecorderPlugin
from kancl.runner.build import build as build_run
from kancl.runner.request.compose import read_request
from kancl.strategies import TrainingSetup, build

Images = tuple[Tensor, Tensor]
DATA_EVAL_BATCH, RUNS_EVAL_BATCH = 1024, 256
PHASES = {"epoch": True, "experience": True, "stream": True}


def bench_data(
    *,
    model: Literal["mlp", "kan"] = "mlp",
    batch_size: int = 128,
    repeats: int = 5,
    device: str = "cpu",
    train_samples: int | None = None,
    test_samples: int | None = None,
) -> Iterator[Rows]:
    """What a run costs beyond its arithmetic: a bare PyTorch loop, kancl, stock Avalanche.

    One epoch of Split MNIST, class-incremental and naive, loss and accuracy of every test
    experience evaluated after each of the five, with the same network and optimizer. The
    variants take turns in one process; each is divided by the bare loop of its own turn,
    and the median of these ratios counts. The bare loop reads nothing off while it trains;
    kancl reads loss and accuracy of every batch off every 50 iterations.

    Args:
        model: mlp (784-512-10) or kan (784-64-10).
        train_samples, test_samples: per experience, for a quick look; stock Avalanche is
            left out then, it has no such option.
    """
    benchmark = split_mnist(
        normalize="standard",
        train_samples=train_samples,
        test_samples=test_samples,
        device=device,
    )
    train, test = (
        [as_tensors(experience.dataset)[:2] for experience in stream]
        for stream in (benchmark.train_stream, benchmark.test_stream)
    )

    def metrics() -> EvaluationPlugin:
        parts = [metric(**PHASES) for metric in (accuracy_metrics, loss_metrics)]
        return EvaluationPlugin(*parts, loggers=[BaseLogger()])

    def kancl(network: nn.Module, **options: Any) -> None:
        options |= {"batch_size": batch_size, "eval_batch_size": DATA_EVAL_BATCH}
        setup = TrainingSetup(network, _sgd(network), device=device, **options)
        train_and_evaluate(build("naive", setup), benchmark)

    def stock(network: nn.Module) -> None:
        learner = Naive(
            model=network,
            optimizer=_sgd(network),
            train_mb_size=batch_size,
            eval_mb_size=DATA_EVAL_BATCH,
            device=device,
            evaluator=metrics(),
        )
        train_and_evaluate(learner, stock_benchmark)

    trainings: dict[str, Callable[[nn.Module], None]] = {
        "bare PyTorch loop": lambda net: _bare(net, train, test, batch_size),
        "kancl": lambda net: kancl(net, plugins=[RecorderPlugin(len(train))]),
        "kancl, Avalanche's metrics": lambda net: kancl(net, evaluator=metrics()),
    }
    if train_samples is None and test_samples is None:
        with torchvision_folder() as folder:
            stock_benchmark = stock_split_mnist(folder)
        trainings["stock Avalanche"] = stock

    def prepare(training: Callable[[nn.Module], None], turn: int) -> Step:
        torch.manual_seed(turn)
        layers = [nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 10)]
        layers = [KAN([784, 64, 10])] if model == "kan" else layers
        network = nn.Sequential(nn.Flatten(), *layers).to(device)

        def train() -> nn.Module:
            training(network)
            return network

        return train

    variants = {name: partial(prepare, each) for name, each in trainings.items()}
    timings = take_turns(variants, repeats)
    rows = []
    for name, timing in timings.items():
        row = {"variant": name, "accuracy": _accuracy(timing.results[-1], test)}
        rows.append(row | timing.cells(timings["bare PyTorch loop"]))
    yield rows


def bench_runs(
    *,
    efficient_kan: str | None = None,
    batch_size: int = 64,
    repeats: int = 3,
    samples: int | None = None,
    models: Sequence[Literal["kan", "mlp"]] = ("kan", "mlp"),
) -> Iterator[Rows]:
    """How long whole runs take: kancl beside stock Avalanche, with efficient-kan and an MLP.

    A run is Split MNIST, class-incremental and naive: five experiences, one epoch each,
    every test experience evaluated after each, TensorBoard on, Adam, standardised pixels.
    kancl's is ``kancl run`` as it comes; the other is Avalanche's own benchmark, strategy,
    metrics and logger, around efficient-kan's KAN with its defaults (a factor per edge
    more than kancl's), or an MLP as large as kancl's. All take turns in one process, on the
    CPU, after a short run of each that is not counted. "Times": kancl's runs per run.

    Args:
        efficient_kan: a checkout of it; without, there is no stock run of a KAN.
        samples: train and test on so many images of each class, for a quick look.
        models: kan: [784, 64, 10], G=5, cubic; mlp: with as many parameters.
    """

    def words(model: str, n: int | None) -> list[str]:
        n_samples = "null" if n is None else 2 * n  # an experience has two classes
        return [
            *("scenario=split_mnist", "scenario.normalize=standard", "strategy=naive"),
            *(f"scenario.{kind}_samples={n_samples}" for kind in ("train", "test")),
            f"training.batch_size={batch_size}",
            f"training.eval_batch_size={RUNS_EVAL_BATCH}",
            *("device=cpu", f"model={model}", *["match=params"] * (model == "mlp")),
        ]

    sizes: dict[tuple[str, str], int] = {}
    makes: dict[str, Callable[[], nn.Module]] = {}
    for model in models:
        (config,) = read_request(words(model, 1), sweep=False).configs
        size = build_run(config).size
        sizes["kancl", model] = size.n_parameters
        if model == "mlp":
            name = "Avalanche"
            makes[name] = partial(MLP, [784, *size.hidden, 10])
        elif efficient_kan is not None:
            name = "Avalanche + efficient-kan"
            makes[name] = partial(load_efficient_kan(efficient_kan), [784, 64, 10])
        else:
            continue
        sizes[name, model] = n_parameters(makes[name]())

    def prepare(name: str, model: str, n: int | None, data: Path) -> Prepare:
        if name != "kancl":
            return lambda turn: partial(_stock_run, makes[name], batch_size, data, turn)
        return lambda turn: partial(finished_run, [*words(model, n), f"seed={turn}"])

    for turns, n in ((1, 20), (repeats, samples)):
        with torchvision_folder(n) as data:
            variants = {variant: prepare(*variant, n, data) for variant in sizes}
            timings = take_turns(variants, turns)
    measures = {"accuracy": "average_accuracy", "learning": "learning_accuracy"}
    yield [
        {
            "variant": name,
            "model": model,
            "parameters": sizes[name, model],
            **timing.cells(timings["kancl", model]),
            **{k: fmean(r[key] for r in timing.results) for k, key in measures.items()},
        }
        for (name, model), timing in timings.items()
    ]


def _sgd(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=0.05)


def _bare(
    network: nn.Module, train: Sequence[Images], test: Sequence[Images], batch_size: int
) -> None:
    """The least that this training can be written as, images in memory as floats."""
    optimizer, loss_of = _sgd(network), nn.CrossEntropyLoss()
    for x, y in train:
        network.train()
        for index in torch.randperm(len(x)).to(x.device).split(batch_size):
            optimizer.zero_grad()
            loss_of(network(x[index]), y[index]).backward()
            optimizer.step()
        _accuracy(network, test)


@torch.no_grad()
def _accuracy(network: nn.Module, test: Sequence[Images]) -> float:
    network.eval()
    loss_of = nn.CrossEntropyLoss()
    n_correct, loss = 0, 0.0
    for x, y in test:
        for part, targets in zip(x.split(DATA_EVAL_BATCH), y.split(DATA_EVAL_BATCH)):
            scores = network(part)
            loss += loss_of(scores, targets).item() * len(part)
            n_correct += int((scores.argmax(1) == targets).sum())
    return n_correct / sum(len(x) for x, _ in test)


def _stock_run(
    make: Callable[[], nn.Module], batch_size: int, data: Path, seed: int
) -> dict[str, float]:
    """Avalanche alone, on the same images as torchvision reads them."""
    torch.manual_seed(seed)
    benchmark = stock_split_mnist(data)
    model = nn.Sequential(nn.Flatten(), make())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with tempfile.TemporaryDirectory() as folder:
        board = TensorboardLogger(folder)
        evaluator = EvaluationPlugin(accuracy_metrics(**PHASES), loggers=[board])
        learner = Naive(
            model=model,
            optimizer=optimizer,
            train_mb_size=batch_size,
            eval_mb_size=RUNS_EVAL_BATCH,
            evaluator=evaluator,
        )
        metrics = train_and_evaluate(learner, benchmark)
        board.writer.close()
    name = "Top1_Acc_Exp/eval_phase/test_stream/Task000/Exp{:03d}"
    rows = [[row[name.format(k)] for k in range(len(metrics))] for row in metrics]
    learned = fmean(row[k] for k, row in enumerate(rows))
    return {"average_accuracy": fmean(rows[-1]), "learning_accuracy": learned}


def train_and_evaluate(learner: Any, benchmark: Any) -> list[dict[str, float]]:
    """Avalanche's metrics of all test experiences after each training experience."""
    metrics = []
    for experience in benchmark.train_stream:
        learner.train(experience)
        metrics.append(learner.eval(benchmark.test_stream))
    return metrics


def stock_split_mnist(folder: Path, **options: Any) -> Any:
    """Five experiences of two classes, in the order of the digits.

    Args:
        options: further arguments of ``SplitMNIST``, such as its transforms.
    """
    order = list(range(10))
    return SplitMNIST(5, fixed_class_order=order, dataset_root=folder, **options)


@contextmanager
def torchvision_folder(samples: int | None = None) -> Iterator[Path]:
    """A folder in which torchvision finds MNIST, as long as the context lasts.

    Args:
        samples: only so many images of each class, to train and to test on.
    """
    mnist = load_images()
    files = {
        "train": (mnist.train_x.squeeze(1), mnist.train_labels),
        "t10k": (mnist.test_x.squeeze(1), mnist.test_labels),
    }
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "MNIST", "raw")
        raw.mkdir(parents=True)
        for prefix, (images, labels) in files.items():
            kept = [torch.nonzero(labels == c).flatten()[:samples] for c in range(10)]
            rows = torch.cat(kept).sort().values
            for values, kind in ((images, "images-idx3"), (labels, "labels-idx1")):
                sizes = np.array([0x0800 + values.dim(), len(rows), *values.shape[1:]])
                content = values[rows].to(torch.uint8).numpy().tobytes()
                path = raw / f"{prefix}-{kind}-ubyte"
                path.write_bytes(sizes.astype(">u4").tobytes() + content)
        yield Path(folder)
