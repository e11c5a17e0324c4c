"""What checkpoints cost: per iteration, per experience, and each time one is written.

A network of the usual size is trained on two experiences of Split MNIST (so that there
are importances, exemplars and moments to keep), with a checkpoint every few iterations.
What an iteration pays when none is due is timed apart: the plugin's question whether one
is due, and the counting of batches.

    kancl bench checkpoints --iterations 60
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kancl.bench.arguments import positive
from kancl.benchmarks import split_mnist
from kancl.config.schema import Checkpoint
from kancl.models import MODELS
from kancl.models.heads import with_head
from kancl.observe.recorder import RecorderPlugin
from kancl.runner.checkpoint import CheckpointFolder, CheckpointPlugin
from kancl.runner.checkpoint.retraced import Retraced
from kancl.strategies import STRATEGIES, TrainingSetup

PAIRS = (("mlp", "naive"), ("kan", "naive"), ("kan", "ewc"), ("kan", "replay"))
TARGET = 0.02
EVERY_SECONDS = 30.0


@dataclass(frozen=True)
class Cost:
    """Of one model and strategy; seconds are medians.

    Args:
        asking: per iteration, where no checkpoint is due.
        border: per experience, to note where it begins.
        write: of a checkpoint inside an experience.
    """

    label: str
    iteration: float
    asking: float
    border: float
    write: float
    n_bytes: int

    @property
    def share(self) -> float:
        """Of the time, with a checkpoint every 30 s."""
        return self.asking / self.iteration + self.write / EVERY_SECONDS


class _Timed:
    """A method that notes how long each call takes."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method
        self.seconds: list[float] = []

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        result = self._method(*arguments, **options)
        self.seconds.append(time.perf_counter() - start)
        return result


def measure(model: str, strategy: str, iterations: int, folder: Path) -> Cost:
    """Train ``iterations`` batches of 128 on each of two experiences."""
    benchmark = split_mnist(train_samples=max(2 * 128, 2000), test_samples=10)
    info = benchmark.info
    torch.manual_seed(0)
    network = MODELS[model](info.in_features, info.n_outputs)
    network = with_head(network, "single", info.n_outputs)
    recorder = RecorderPlugin(info.n_experiences)
    setup = TrainingSetup(
        network,
        torch.optim.Adam(network.parameters(), fused=True),
        iterations=iterations,
        plugins=[recorder],
    )
    learner = STRATEGIES[strategy](setup)
    every = max(iterations // 4, 1)
    options = Checkpoint(every_seconds=None, every_iterations=every)
    keeper = CheckpointPlugin(CheckpointFolder(folder, {}), options)
    keeper.attach(learner, benchmark, recorder)
    write = keeper.write = _Timed(keeper.write)  # type: ignore[method-assign]
    border = _Timed(keeper.at_border)
    seconds = 0.0
    for k, experience in enumerate(list(benchmark.train_stream)[:2]):
        border(k)
        start, before = time.perf_counter(), sum(write.seconds)
        learner.train(experience)
        seconds += time.perf_counter() - start - (sum(write.seconds) - before)
    return Cost(
        f"{model}-{strategy}",
        seconds / (2 * iterations),
        asking_seconds(keeper, learner),
        statistics.median(border.seconds),
        statistics.median(write.seconds),
        max(path.stat().st_size for path in folder.iterdir()),
    )


def asking_seconds(keeper: CheckpointPlugin, learner: Any, n: int = 20_000) -> float:
    """Per iteration: two comparisons, and one batch counted."""
    keeper._every = 0
    start = time.perf_counter()
    for _ in range(n):
        keeper.after_training_iteration(learner)
    asking = time.perf_counter() - start
    plain, counted = _Batches(n), Retraced(_Batches(n))
    start = time.perf_counter()
    for _ in plain:
        pass
    middle = time.perf_counter()
    for _ in counted:
        pass
    counting = (time.perf_counter() - middle) - (middle - start)
    return (asking + max(counting, 0.0)) / n


class _Batches:
    """An iterable that says, as kancl's loaders do, that it draws at its start only."""

    draws_at_start = True

    def __init__(self, n: int) -> None:
        self._n = n

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._n))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if a share is above 2 %."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=positive, default=60)
    parser.add_argument("--threads", type=positive, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    print(
        f"{'':<12} {'iteration':>10} {'none due':>9} {'border':>8} {'write':>8} "
        f"{'size':>8}   share at every {EVERY_SECONDS:.0f} s"
    )
    worst = 0.0
    for model, strategy in PAIRS:
        with tempfile.TemporaryDirectory() as folder:
            cost = measure(model, strategy, options.iterations, Path(folder))
        worst = max(worst, cost.share)
        verdict = "PASS" if cost.share < TARGET else "FAIL"
        print(
            f"{cost.label:<12} {1e3 * cost.iteration:>7.2f} ms {1e6 * cost.asking:>6.2f} us "
            f"{1e3 * cost.border:>5.0f} ms {1e3 * cost.write:>5.0f} ms "
            f"{cost.n_bytes / 2**20:>4.1f} MiB   {cost.share:.2%} (< {TARGET:.0%}: {verdict})",
            flush=True,
        )
    return int(worst >= TARGET)
