"""How long whole runs take: kancl beside stock Avalanche, with efficient-kan and an MLP.

A run is Split MNIST, class-incremental and naive: five experiences, one epoch each,
every test experience evaluated after each, TensorBoard on, Adam, standardised pixels.
kancl's side is ``kancl run`` as it comes, with its forgetting curves and pictures; the
other is Avalanche's own benchmark, strategy, accuracy metrics and TensorBoard logger,
around efficient-kan's KAN with its defaults (a factor per edge more than kancl's), or an
MLP as large as kancl's. All sides take turns in one process, so that whatever else the
machine does hits all of them; a short run of each, not counted, goes before, so that
nobody is charged for imports. "Times" says how many of kancl's runs fit into one: the
median over the turns of the ratio within a turn. CPU seconds leave out what a run waited
for others on a busy machine.

    kancl bench runs --efficient-kan PATH_OF_A_CHECKOUT --csv runs.csv
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.logging import TensorboardLogger
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive
from torch import nn

from kancl.bench.arguments import positive
from kancl.bench.others import load_efficient_kan
from kancl.bench.stock import stock_split_mnist, torchvision_folder
from kancl.config import RunConfig
from kancl.models import MLP
from kancl.models.cost import n_parameters
from kancl.runner import build, read_request, run

_EVAL_BATCH_SIZE = 256
_WARM_UP_SAMPLES = 20

MODELS = ("kan", "mlp")
_HEADER = (
    "side",
    "model",
    "parameters",
    "seconds",
    "times",
    "CPU seconds",
    "times CPU",
    "accuracy %",
    "learning %",
    "all seconds",
)

Outcome = tuple[float, float]
"""Average accuracy after the last experience, learning accuracy."""

_Turn = Callable[[int, "int | None", Path], Outcome]
"""A whole run, given the seed, the images per class and torchvision's folder."""


@dataclass
class Runs:
    """What the runs of one side took, one figure per turn, and what they reached."""

    side: str
    model: str
    n_parameters: int
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    average_accuracy: list[float] = field(default_factory=list)
    learning_accuracy: list[float] = field(default_factory=list)


def median_ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """Median over the turns of how many of our runs fit into one of theirs."""
    return statistics.median(a / b for a, b in zip(theirs, ours))


def bench_runs(
    efficient_kan: str | Path | None = None,
    batch_size: int = 64,
    repeats: int = 3,
    samples: int | None = None,
    models: Sequence[str] = MODELS,
) -> list[Runs]:
    """Time whole runs of all sides in turns, on the CPU.

    Args:
        efficient_kan: a checkout of efficient-kan; None: no stock run of a KAN.
        samples: train and test on so many images of each class, for a quick look.
        models: ``kan``: [784, 64, 10], G=5, cubic; ``mlp``: with as many parameters.
    """
    results: list[Runs] = []
    turns: list[_Turn] = []
    for model in models:
        parts = build(_config(model, batch_size, seed=0, samples=1, folder="."))
        results.append(Runs("kancl", model, parts.size.n_parameters))
        turns.append(partial(_ours, model, batch_size))
        make: Callable[[], nn.Module]
        if model == "mlp":
            make = partial(MLP, [784, *parts.size.hidden, 10])
        elif efficient_kan is not None:
            make = partial(load_efficient_kan(efficient_kan), [784, 64, 10])
        else:
            continue
        side = "Avalanche" + (" + efficient-kan" if model == "kan" else "")
        results.append(Runs(side, model, n_parameters(make())))
        turns.append(partial(_stock, make, batch_size))
    with torchvision_folder(_WARM_UP_SAMPLES, _WARM_UP_SAMPLES) as data:
        for turn in turns:
            turn(0, _WARM_UP_SAMPLES, data)
    with torchvision_folder(samples, samples) as data:
        for seed in range(repeats):
            for result, turn in zip(results, turns):
                start, cpu_start = time.perf_counter(), time.process_time()
                average, learning = turn(seed, samples, data)
                result.seconds.append(time.perf_counter() - start)
                result.cpu_seconds.append(time.process_time() - cpu_start)
                result.average_accuracy.append(average)
                result.learning_accuracy.append(learning)
    return results


def _config(
    model: str, batch_size: int, seed: int, samples: int | None, folder: str
) -> RunConfig:
    per_experience = "null" if samples is None else 2 * samples
    words = [
        "scenario=split_mnist",
        "scenario.normalize=standard",
        f"scenario.train_samples={per_experience}",
        f"scenario.test_samples={per_experience}",
        f"model={model}",
        "strategy=naive",
        f"training.batch_size={batch_size}",
        f"training.eval_batch_size={_EVAL_BATCH_SIZE}",
        f"seed={seed}",
        "device=cpu",
        f"log_dir={folder!r}",
    ]
    if model == "mlp":
        words.append("match=params")
    return read_request(words, sweep=False).configs[0]


def _ours(
    model: str, batch_size: int, seed: int, samples: int | None, data: Path
) -> Outcome:
    """``kancl run``, into a folder of its own, on the images in the package."""
    with tempfile.TemporaryDirectory() as folder:
        summary = run(_config(model, batch_size, seed, samples, folder), quiet=True)
    if summary["status"] != "completed":
        raise RuntimeError(f"kancl's run of {model} failed: {summary['error']}")
    return summary["average_accuracy"], summary["learning_accuracy"]


def _stock(
    make: Callable[[], nn.Module],
    batch_size: int,
    seed: int,
    samples: int | None,
    data: Path,
) -> Outcome:
    """The same by Avalanche alone, on the same images as torchvision reads them."""
    torch.manual_seed(seed)
    benchmark = stock_split_mnist(data)
    model = nn.Sequential(nn.Flatten(), make())
    with tempfile.TemporaryDirectory() as folder:
        board = TensorboardLogger(folder)
        learner = Naive(
            model=model,
            optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
            train_mb_size=batch_size,
            eval_mb_size=_EVAL_BATCH_SIZE,
            evaluator=EvaluationPlugin(
                accuracy_metrics(epoch=True, experience=True, stream=True),
                loggers=[board],
            ),
        )
        n = len(benchmark.train_stream)
        rows = []
        for experience in benchmark.train_stream:
            learner.train(experience)
            metrics = learner.eval(benchmark.test_stream)
            rows.append([_accuracy(metrics, k) for k in range(n)])
        board.writer.close()
    return sum(rows[-1]) / n, sum(rows[k][k] for k in range(n)) / n


def _accuracy(metrics: dict[str, Any], experience: int) -> float:
    name = f"Top1_Acc_Exp/eval_phase/test_stream/Task000/Exp{experience:03d}"
    return float(metrics[name])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="kancl bench runs", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--efficient-kan", metavar="PATH", help="a checkout of it")
    parser.add_argument("--batch-size", type=positive, default=64)
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument(
        "--samples", type=positive, help="images per class; all if left out"
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--csv", type=Path, help="where to write the table as well")
    options = vars(parser.parse_args(argv))
    torch.set_num_threads(options.pop("threads"))
    path = options.pop("csv")
    try:
        results = bench_runs(**options)
    except ValueError as error:
        parser.error(str(error))
    rows = _table(results)
    for side, model, *figures in [_HEADER, *rows]:
        print(f"{side:27}{model:6}" + "  ".join(f"{figure:>12}" for figure in figures))
    if path is not None:
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([_HEADER, *rows])
    return 0


def _table(results: Sequence[Runs]) -> list[list[str]]:
    ours = {result.model: result for result in results if result.side == "kancl"}
    return [
        [
            result.side,
            result.model,
            str(result.n_parameters),
            f"{statistics.median(result.seconds):.2f}",
            f"{median_ratio(result.seconds, ours[result.model].seconds):.2f}",
            f"{statistics.median(result.cpu_seconds):.2f}",
            f"{median_ratio(result.cpu_seconds, ours[result.model].cpu_seconds):.2f}",
            f"{100 * statistics.mean(result.average_accuracy):.2f}",
            f"{100 * statistics.mean(result.learning_accuracy):.2f}",
            " ".join(f"{seconds:.1f}" for seconds in result.seconds),
        ]
        for result in results
    ]


if __name__ == "__main__":
    raise SystemExit(main())
