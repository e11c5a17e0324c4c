"""What a run costs beyond its arithmetic: a bare PyTorch loop, kancl, stock Avalanche.

One epoch of Split MNIST, class-incremental and naive, every test experience evaluated
after each of the five. The sides take turns in one process, so that whatever else the
machine does hits all of them; each is divided by the bare loop of its own turn, and the
median of these ratios counts. CPU seconds are shown beside, which leave out what a side
waited for others on a busy machine.

All sides train the same network on as many batches with the same optimizer, and evaluate
as often, loss and accuracy. The bare loop reads nothing off while it trains; kancl keeps
loss and accuracy of every batch and reads them every 50 iterations.

    python -m kancl.bench.data_path --batch-size 128 --repeats 5
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from avalanche.evaluation.metrics import accuracy_metrics, loss_metrics
from avalanche.logging import BaseLogger
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive
from torch import Tensor, nn

from kancl.bench.arguments import positive
from kancl.bench.stock import stock_split_mnist, torchvision_folder
from kancl.benchmarks import Benchmark, split_mnist
from kancl.data.rows import as_tensors
from kancl.models import KAN
from kancl.observe.recorder import RecorderPlugin
from kancl.strategies.setup import TrainingSetup

Images = tuple[Tensor, Tensor]

_LEARNING_RATE = 0.05
_EVAL_BATCH_SIZE = 1024


@dataclass
class Cost:
    """Seconds of one side, one per repeat, and the accuracy it reached."""

    side: str
    seconds: list[float]
    cpu_seconds: list[float]
    accuracy: float


def times(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How many times theirs ours are: median over the turns."""
    return statistics.median(a / b for a, b in zip(ours, theirs))


def measure(
    model: str = "mlp",
    batch_size: int = 128,
    repeats: int = 5,
    device: str = "cpu",
    train_samples: int | None = None,
    test_samples: int | None = None,
) -> list[Cost]:
    """Time the sides in turns; the first is the bare loop.

    Args:
        model: ``mlp`` (784-512-10) or ``kan`` (784-64-10).
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
    sides: dict[str, Callable[[nn.Module], None]] = {
        "bare PyTorch loop": lambda net: _bare(net, train, test, batch_size),
        "kancl": lambda net: _kancl(net, benchmark, batch_size, device),
        "kancl, Avalanche's metrics": lambda net: _kancl(
            net, benchmark, batch_size, device, stock_metrics=True
        ),
    }
    if train_samples is None and test_samples is None:
        with torchvision_folder() as folder:
            stock = stock_split_mnist(folder)
        sides["stock Avalanche"] = lambda net: _stock(net, stock, batch_size, device)
    costs = {side: Cost(side, [], [], 0.0) for side in sides}
    for repeat in range(repeats):
        for side, run in sides.items():
            torch.manual_seed(repeat)
            net = _network(model).to(device)
            _wait(device)
            start, cpu_start = time.perf_counter(), time.process_time()
            run(net)
            _wait(device)
            costs[side].seconds.append(time.perf_counter() - start)
            costs[side].cpu_seconds.append(time.process_time() - cpu_start)
            costs[side].accuracy = _accuracy(net, test)
    return list(costs.values())


def _network(model: str) -> nn.Module:
    if model == "kan":
        return nn.Sequential(nn.Flatten(), KAN([784, 64, 10]))
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 10)
    )


def _sgd(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=_LEARNING_RATE)


def _bare(
    net: nn.Module, train: list[Images], test: list[Images], batch_size: int
) -> None:
    """The least that this training can be written as, images in memory as floats."""
    optimizer = _sgd(net)
    loss_of = nn.CrossEntropyLoss()
    for x, y in train:
        net.train()
        for index in torch.randperm(len(x)).to(x.device).split(batch_size):
            optimizer.zero_grad()
            loss_of(net(x[index]), y[index]).backward()
            optimizer.step()
        _accuracy(net, test)


@torch.no_grad()
def _accuracy(net: nn.Module, test: list[Images]) -> float:
    net.eval()
    loss_of = nn.CrossEntropyLoss()
    n_correct, n_images, loss = 0, 0, 0.0
    for x, y in test:
        for part, targets in zip(x.split(_EVAL_BATCH_SIZE), y.split(_EVAL_BATCH_SIZE)):
            scores = net(part)
            loss += loss_of(scores, targets).item() * len(part)
            n_correct += int((scores.argmax(1) == targets).sum())
        n_images += len(x)
    return n_correct / n_images


def _kancl(
    net: nn.Module,
    benchmark: Benchmark,
    batch_size: int,
    device: str,
    stock_metrics: bool = False,
) -> None:
    learner = TrainingSetup(
        model=net,
        optimizer=_sgd(net),
        batch_size=batch_size,
        eval_batch_size=_EVAL_BATCH_SIZE,
        device=device,
        plugins=[] if stock_metrics else [RecorderPlugin(len(benchmark.train_stream))],
        evaluator=_metrics() if stock_metrics else None,
    ).build()
    _train_and_evaluate(learner, benchmark)


def _stock(net: nn.Module, benchmark: Any, batch_size: int, device: str) -> None:
    learner = Naive(
        model=net,
        optimizer=_sgd(net),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=batch_size,
        eval_mb_size=_EVAL_BATCH_SIZE,
        device=device,
        evaluator=_metrics(),
    )
    _train_and_evaluate(learner, benchmark)


def _metrics() -> EvaluationPlugin:
    return EvaluationPlugin(
        accuracy_metrics(epoch=True, experience=True, stream=True),
        loss_metrics(epoch=True, experience=True, stream=True),
        loggers=[BaseLogger()],
    )


def _train_and_evaluate(learner: Any, benchmark: Any) -> None:
    for experience in benchmark.train_stream:
        learner.train(experience)
        learner.eval(benchmark.test_stream)


def _wait(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure as the command line says and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=["mlp", "kan"], default="mlp")
    parser.add_argument("--batch-size", type=positive, default=128)
    parser.add_argument("--repeats", type=positive, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--train-samples", type=positive)
    parser.add_argument("--test-samples", type=positive)
    options = vars(parser.parse_args(arguments))
    torch.set_num_threads(options.pop("threads"))
    costs = measure(**options)
    print(
        f"{'':<28} {'seconds':>8} {'x bare':>7} {'CPU s':>7} {'x bare':>7} "
        f"{'accuracy':>9}   all seconds"
    )
    for cost in costs:
        ratio = times(cost.seconds, costs[0].seconds)
        cpu_ratio = times(cost.cpu_seconds, costs[0].cpu_seconds)
        each = " ".join(f"{seconds:.2f}" for seconds in cost.seconds)
        print(
            f"{cost.side:<28} {statistics.median(cost.seconds):>8.2f} {ratio:>7.2f} "
            f"{statistics.median(cost.cpu_seconds):>7.2f} {cpu_ratio:>7.2f} "
            f"{cost.accuracy:>9.4f}   {each}"
        )


if __name__ == "__main__":
    main()
