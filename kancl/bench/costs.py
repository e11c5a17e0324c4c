"""What checkpoints, evaluation and Python cost a run; what a sweep gains by processes."""

import json
import math
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from timeit import timeit
from typing import Any, Literal

import torch
from joblib import cpu_count
from torch import nn

from kancl.bench.harness import Prepare, Rows, finished_run, take_turns, verdict
from kancl.benchmarks import split_mnist
from kancl.config import ConfigError
from kancl.config.schema import Checkpoint
from kancl.models import MODELS
from kancl.models.heads import with_head
from kancl.observe.recorder import RecorderPlugin
from kancl.runner.checkpoint.plugin import CheckpointPlugin, ReplayableIterator
from kancl.runs.checkpoints import CheckpointFolder
from kancl.strategies import TrainingSetup, build

CHECKPOINTS, EVERY_SECONDS = 0.02, 30.0
"""Largest share of the time that checkpoints may take, with one every so often."""
LOOKS = {"curve": 0.1, "locality": 0.05}
"""Largest share of a run's time that each may take."""
JOBLIB = 0.85
"""Least gain of a sweep, of the number of cores: 1.7 times as fast on two."""
BEYOND_STEP = {"naive": 150, "ewc": 250, "si": 250, "replay": 250, "gram": None}
"""Most microseconds of CPU time that an iteration may take beyond its bare step."""
BATCHES = {"replay": 2}
"""How many batches a step trains on, if more than one."""
N_EXPERIENCES = 5
N_CALLS = 20_000


def bench_evaluation(
    *,
    every: int = 10,
    samples: int = 64,
    batch_size: int = 128,
    repeats: int = 3,
    models: Sequence[Literal["kan", "mlp"]] = ("mlp", "kan"),
    images: int | None = None,
    device: str = "cpu",
) -> Iterator[Rows]:
    """What looking costs: whole runs with continual evaluation, with the diagnosis, without.

    ``curve``: ``evaluation.every_iterations`` and ``evaluation.samples`` as given, beside
    no curve; ``locality``: ``evaluation.locality``, beside the usual forgetting curves.
    All take turns in one process, on data and weights of the same seed, after a short run
    of each that is not counted; TensorBoard writes its numbers. The cost is the median
    over the turns of the ratio within a turn, in CPU seconds. A point on s images has a
    standard error of at most 0.5 / sqrt(s).

    Args:
        every: iterations between two points of the curve.
        samples: test images of each experience for a point.
        images: of each experience, to train and to test on; all if left out.
    """
    often = [f"evaluation.every_iterations={every}", f"evaluation.samples={samples}"]
    looks = {
        ("curve", False): ["evaluation.samples=0"],
        ("curve", True): often,
        ("locality", False): [],
        ("locality", True): ["evaluation.locality=true"],
    }

    def prepare(model: str, own: Sequence[str], n: int | None) -> Prepare:
        few = "null" if n is None else n
        words = ["match=params", "tensorboard=numbers", f"device={device}"]
        words += [f"scenario.{kind}_samples={few}" for kind in ("train", "test")]
        words += [f"training.batch_size={batch_size}", f"model={model}", *own]
        return lambda turn: partial(finished_run, [*words, f"seed={turn}"])

    for turns, n in ((1, 64), (repeats, images)):
        variants = {
            (model, *look): prepare(model, own, n)
            for model, (look, own) in product(models, looks.items())
        }
        timings = take_turns(variants, turns)
    rows = []
    for model, (look, most) in product(models, LOOKS.items()):
        without, with_it = timings[model, look, False], timings[model, look, True]
        cost = with_it.cpu_times(without) - 1
        row = {
            "model": model,
            "look": look,
            "CPU s without": median(without.cpu_seconds),
            "with": median(with_it.cpu_seconds),
            "points": None,
            "largest standard error": None,
            "cost %": 100 * cost,
            "target %": 100 * most,
            "verdict": verdict(cost < most),
        }
        if look == "curve":
            row["points"] = with_it.results[-1]["n_iterations"] // every
            row["largest standard error"] = 0.5 / math.sqrt(samples)
        rows.append(row)
    yield rows


def bench_iteration(
    *,
    strategies: Sequence[str] = tuple(BEYOND_STEP),
    iterations: int = 400,
    batch_size: int = 32,
    repeats: int = 5,
) -> Iterator[Rows]:
    """What an iteration costs beyond its bare step: the share of Python, hooks and plugins.

    A tiny MLP (784-4-2) on domain-incremental Split MNIST, where arithmetic costs little:
    microseconds of CPU time of one more iteration of a whole run (twice as many
    iterations, less once), beside a loop of plain PyTorch over random images of the same
    shape, all in turns. Replay trains on two batches in a step, a new one and a kept one:
    its bare step is one of twice the samples. The penalties of EWC and SI, the second
    pass of replay and the products of gram count as the strategy's own. On a GPU this is
    what remains when launches are few.

    Args:
        iterations: of each experience in the shorter run.
    """
    words = ["match=none", "model=mlp", "model.hidden=[4]", "optimizer=sgd"]
    words += ["scenario.incremental=domain", "scenario.test_samples=100"]
    words += [f"training.batch_size={batch_size}", "evaluation.samples=0"]
    words += ["optimizer.lr=0.01", "tensorboard=none"]

    def prepare(strategy: str, n: int) -> Prepare:
        own = [f"strategy={strategy}", f"training.iterations={n}"]
        return lambda turn: partial(finished_run, [*words, *own, f"seed={turn}"])

    def bare(n_batches: int, n: int) -> Prepare:
        return lambda turn: partial(_bare_steps, n, n_batches * batch_size)

    sizes = [iterations, 2 * iterations]
    n_batches = {strategy: BATCHES.get(strategy, 1) for strategy in strategies}
    variants: dict[tuple[str | int, int], Prepare]
    variants = {(s, n): prepare(s, n) for s, n in product(strategies, sizes)}
    variants |= {(k, n): bare(k, n) for k, n in product({*n_batches.values()}, sizes)}
    take_turns(variants, 1)  # what is made once, such as the index of the data
    timings = take_turns(variants, repeats)

    def microseconds(name: str | int, n_experiences: int) -> float:
        short, long = (timings[name, n].cpu_seconds for n in sizes)
        more = median(b - a for a, b in zip(short, long))
        return 1e6 * more / (n_experiences * iterations)

    rows = []
    for strategy in strategies:
        step = microseconds(n_batches[strategy], 1)
        whole, most = microseconds(strategy, N_EXPERIENCES), BEYOND_STEP.get(strategy)
        row = {"strategy": strategy, "bare step, us": step, "iteration, us": whole}
        row |= {"beyond, us": whole - step, "target, us": most}
        row["verdict"] = None if most is None else verdict(whole - step <= most)
        rows.append(row)
    yield rows


def _bare_steps(n: int, batch_size: int) -> None:
    """``n`` steps of SGD in a loop of plain PyTorch."""
    network = nn.Sequential(nn.Linear(784, 4), nn.ReLU(), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    loss_of = nn.CrossEntropyLoss()
    x, y = torch.rand(6_000, 784), torch.randint(0, 2, (6_000,))
    for rows in torch.randint(0, len(x), (n, batch_size)):
        optimizer.zero_grad()
        loss_of(network(x[rows]), y[rows]).backward()
        optimizer.step()


def bench_sweep(
    *, runs: int = 6, repeats: int = 3, settings: Sequence[str] = ()
) -> Iterator[Rows]:
    """How much sooner a sweep is done by a process per core (Joblib) than by one process.

    The same runs, in fresh folders, by whole processes in turns, start-up and imports
    included: one after another on one core, and ``hydra/launcher=joblib``. The longer the
    runs, the less start-up counts.

    Args:
        settings: of the runs: training.epochs=2.

    Raises: ConfigError where there is one core only.
    """
    cores = int(cpu_count())
    if cores < 2:
        raise ConfigError("one core: no sweep is faster here; free a second one")

    def prepare(*own: str) -> Prepare:
        return lambda turn: partial(sweep, [*settings, "threads=1", *own], runs)

    variants = {"one process": prepare(), "joblib": prepare("hydra/launcher=joblib")}
    timings = take_turns(variants, repeats)
    one, target = timings["one process"], JOBLIB * cores
    passed = verdict(one.times(timings["joblib"]) >= target)
    yield [
        {
            "variant": name,
            "seconds": timing.median,
            "times as fast": one.times(timing),
            "runs": runs,
            "cores": cores,
            "target": None if timing is one else target,
            "verdict": "" if timing is one else passed,
        }
        for name, timing in timings.items()
    ]


def sweep(words: Sequence[str], n_runs: int) -> None:
    """A whole ``kancl run -m`` in a fresh folder.

    Raises: RuntimeError if one of its runs is not completed.
    """
    with tempfile.TemporaryDirectory() as folder:
        seeds = ",".join(map(str, range(n_runs)))
        command = [sys.executable, "-m", "kancl", "run", "-m", "-q", f"seed={seeds}"]
        ended = subprocess.run(
            [*command, f"log_dir='{folder}'", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        summaries = Path(folder).glob("*/*/seed*/summary.json")
        states = [json.loads(path.read_text())["status"] for path in summaries]
        if ended.returncode or states != n_runs * ["completed"]:
            raise RuntimeError(f"the sweep {words} failed:\n{ended.stdout[-2000:]}")


def bench_checkpoints(*, iterations: int = 60) -> Iterator[Rows]:
    """What checkpoints cost: per iteration, per experience, and each time one is written.

    A network of the usual size is trained on two experiences of Split MNIST, with a
    checkpoint every few iterations. What an iteration pays when none is due, the question
    whether one is and the counting of batches, is timed by itself.

    Args:
        iterations: on each of the two experiences.
    """
    pairs = ("mlp", "naive"), ("kan", "naive"), ("kan", "ewc"), ("kan", "replay")
    for model, strategy in pairs:
        with tempfile.TemporaryDirectory() as folder:
            yield [measure(model, strategy, iterations, Path(folder))]


def measure(model: str, strategy: str, iterations: int, folder: Path) -> dict[str, Any]:
    """Train ``iterations`` batches of 128 on each of two experiences; times are medians."""
    benchmark = split_mnist(train_samples=max(2 * 128, 2000), test_samples=10)
    info = benchmark.info
    torch.manual_seed(0)
    network = MODELS[model](info.in_features, info.n_outputs)
    network = with_head(network, "single", info.n_outputs)
    recorder = RecorderPlugin(info.n_experiences)
    adam = torch.optim.Adam(network.parameters(), fused=True)
    setup = TrainingSetup(network, adam, iterations=iterations, plugins=[recorder])
    learner = build(strategy, setup)
    options = Checkpoint(every_seconds=None, every_iterations=max(iterations // 4, 1))
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
        "target, %": 100 * CHECKPOINTS,
        "verdict": verdict(share < CHECKPOINTS),
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
    plugin._every, batches = 0, _Batches(range(N_CALLS))
    asking = timeit(partial(plugin.after_training_iteration, learner), number=N_CALLS)
    plain = timeit(lambda: deque(batches, 0), number=1)
    counted = timeit(lambda: deque(ReplayableIterator(batches), 0), number=1)
    return (asking + max(counted - plain, 0.0)) / N_CALLS


class _Batches(list[int]):
    """Says, as kancl's loaders do, that it draws at its start only."""

    draws_at_start = True
