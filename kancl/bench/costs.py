"""What checkpoints cost: per iteration, per experience, and each time one is written.

A network of the usual size is trained on two experiences of Split MNIST (so that there
are importances, exemplars and moments to keep), with a checkpoint every few iterations.
What an iteration pays when none is due is timed by itself: the plugin's question whether
one is due, and the counting of batches.

    kancl bench checkpoints --iterations 60
"""

from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from timeit import timeit
from typing import Any

import torch

from kancl.bench.harness import Rows, Value, command, verdict
from kancl.benchmarks import split_mnist
from kancl.config.schema import Checkpoint
from kancl.models import MODELS
from kancl.models.heads import with_head
from kancl.observe.recorder import RecorderPlugin
from kancl.runner.checkpoint import CheckpointFolder, CheckpointPlugin
from kancl.runner.checkpoint.replayable import ReplayableIterator
from kancl.strategies import TrainingSetup, build

PAIRS = (("mlp", "naive"), ("kan", "naive"), ("kan", "ewc"), ("kan", "replay"))
TARGET = 0.02
"""Largest share of the time that checkpoints may take, with one every 30 s."""
EVERY_SECONDS = 30.0
N_CALLS = 20_000


def bench_checkpoints(*, iterations: int = 60) -> Iterator[Rows]:
    """Time checkpoints of several models and strategies.

    Args:
        iterations: on each of the two experiences.
    """
    for model, strategy in PAIRS:
        with tempfile.TemporaryDirectory() as folder:
            yield [measure(model, strategy, iterations, Path(folder))]


def measure(
    model: str, strategy: str, iterations: int, folder: Path
) -> dict[str, Value]:
    """Train ``iterations`` batches of 128 on each of two experiences; times are medians."""
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
    learner = build(strategy, setup)
    every = max(iterations // 4, 1)
    options = Checkpoint(every_seconds=None, every_iterations=every)
    plugin = CheckpointPlugin(CheckpointFolder(folder, {}), options)
    plugin.attach(learner, benchmark, recorder)
    writes: list[float] = []
    boundaries: list[float] = []
    plugin.write = _timed(plugin.write, writes)  # type: ignore[method-assign]
    at_boundary = _timed(plugin.at_boundary, boundaries)
    seconds = 0.0
    for k, experience in enumerate(list(benchmark.train_stream)[:2]):
        at_boundary(k)
        start, before = time.perf_counter(), sum(writes)
        learner.train(experience)
        seconds += time.perf_counter() - start - (sum(writes) - before)
    none_due = _none_due_seconds(plugin, learner)
    iteration, write = seconds / (2 * iterations), median(writes)
    share = none_due / iteration + write / EVERY_SECONDS
    return {
        "run": f"{model}-{strategy}",
        "iteration, ms": 1e3 * iteration,
        "none due, us": 1e6 * none_due,
        "boundary, ms": 1e3 * median(boundaries),
        "write, ms": 1e3 * write,
        "MiB": max(path.stat().st_size for path in folder.iterdir()) / 2**20,
        "share of the time, %": 100 * share,
        "target, %": 100 * TARGET,
        "verdict": verdict(share < TARGET),
    }


def _timed(method: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    """The method, which then notes how long each call takes."""

    def call(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        result = method(*arguments, **options)
        seconds.append(time.perf_counter() - start)
        return result

    return call


def _none_due_seconds(plugin: CheckpointPlugin, learner: Any) -> float:
    """What an iteration pays: two comparisons, and one batch counted."""
    plugin._every = 0
    asking = timeit(partial(plugin.after_training_iteration, learner), number=N_CALLS)
    plain = timeit(lambda: deque(_Batches(), 0), number=1)
    counted = timeit(lambda: deque(ReplayableIterator(_Batches()), 0), number=1)
    return (asking + max(counted - plain, 0.0)) / N_CALLS


class _Batches:
    """An iterable that says, as kancl's loaders do, that it draws at its start only."""

    draws_at_start = True

    def __iter__(self) -> Iterator[int]:
        return iter(range(N_CALLS))


main = command(bench_checkpoints)
