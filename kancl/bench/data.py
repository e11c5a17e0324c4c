"""What a run costs beyond its arithmetic: a bare PyTorch loop, kancl, stock Avalanche.

One epoch of Split MNIST, class-incremental and naive, every test experience evaluated
after each of the five. The variants take turns in one process; each is divided by the
bare loop of its own turn, and the median of these ratios counts.

All train the same network on as many batches with the same optimizer, and evaluate as
often, loss and accuracy. The bare loop reads nothing off while it trains; kancl keeps
loss and accuracy of every batch and reads them every 50 iterations.

    kancl bench data --batch-size 128 --repeats 5
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import torch
from avalanche.evaluation.metrics import accuracy_metrics, loss_metrics
from avalanche.logging import BaseLogger
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive
from torch import Tensor, nn

from kancl.bench.harness import Rows, Step, command, take_turns
from kancl.bench.others import (
    stock_split_mnist,
    torchvision_folder,
    train_and_evaluate,
)
from kancl.benchmarks import split_mnist
from kancl.data.rows import as_tensors
from kancl.models import KAN
from kancl.observe.recorder import RecorderPlugin
from kancl.strategies import TrainingSetup, build

Images = tuple[Tensor, Tensor]

LEARNING_RATE = 0.05
EVAL_BATCH_SIZE = 1024


def bench_data(
    *,
    model: Literal["mlp", "kan"] = "mlp",
    batch_size: int = 128,
    repeats: int = 5,
    device: str = "cpu",
    train_samples: int | None = None,
    test_samples: int | None = None,
) -> Iterator[Rows]:
    """Time the variants in turns, each beside the bare loop.

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

    def kancl(network: nn.Module, **options: Any) -> None:
        setup = TrainingSetup(
            model=network,
            optimizer=_sgd(network),
            batch_size=batch_size,
            eval_batch_size=EVAL_BATCH_SIZE,
            device=device,
            **options,
        )
        train_and_evaluate(build("naive", setup), benchmark)

    def stock(network: nn.Module) -> None:
        learner = Naive(
            model=network,
            optimizer=_sgd(network),
            criterion=nn.CrossEntropyLoss(),
            train_mb_size=batch_size,
            eval_mb_size=EVAL_BATCH_SIZE,
            device=device,
            evaluator=_metrics(),
        )
        train_and_evaluate(learner, stock_benchmark)

    recorder = partial(RecorderPlugin, len(benchmark.train_stream))
    trainings: dict[str, Callable[[nn.Module], None]] = {
        "bare PyTorch loop": lambda net: _bare(net, train, test, batch_size),
        "kancl": lambda net: kancl(net, plugins=[recorder()]),
        "kancl, Avalanche's metrics": lambda net: kancl(net, evaluator=_metrics()),
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
    bare = next(iter(timings.values()))
    yield [
        {
            "variant": name,
            "accuracy": _accuracy(timing.results[-1], test),
            **timing.cells(bare),
        }
        for name, timing in timings.items()
    ]


def _sgd(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)


def _metrics() -> EvaluationPlugin:
    return EvaluationPlugin(
        accuracy_metrics(epoch=True, experience=True, stream=True),
        loss_metrics(epoch=True, experience=True, stream=True),
        loggers=[BaseLogger()],
    )


def _bare(
    network: nn.Module, train: list[Images], test: list[Images], batch_size: int
) -> None:
    """The least that this training can be written as, images in memory as floats."""
    optimizer = _sgd(network)
    loss_of = nn.CrossEntropyLoss()
    for x, y in train:
        network.train()
        for index in torch.randperm(len(x)).to(x.device).split(batch_size):
            optimizer.zero_grad()
            loss_of(network(x[index]), y[index]).backward()
            optimizer.step()
        _accuracy(network, test)


@torch.no_grad()
def _accuracy(network: nn.Module, test: list[Images]) -> float:
    network.eval()
    loss_of = nn.CrossEntropyLoss()
    n_correct, n_images, loss = 0, 0, 0.0
    for x, y in test:
        for part, targets in zip(x.split(EVAL_BATCH_SIZE), y.split(EVAL_BATCH_SIZE)):
            scores = network(part)
            loss += loss_of(scores, targets).item() * len(part)
            n_correct += int((scores.argmax(1) == targets).sum())
        n_images += len(x)
    return n_correct / n_images


main = command(bench_data)
