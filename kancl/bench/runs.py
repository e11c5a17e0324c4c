"""How long whole runs take: kancl beside stock Avalanche, with efficient-kan and an MLP.

A run is Split MNIST, class-incremental and naive: five experiences, one epoch each,
every test experience evaluated after each, TensorBoard on, Adam, standardised pixels.
kancl's variant is ``kancl run`` as it comes, with its forgetting curves and pictures; the
other is Avalanche's own benchmark, strategy, accuracy metrics and TensorBoard logger,
around efficient-kan's KAN with its defaults (a factor per edge more than kancl's), or an
MLP as large as kancl's. All take turns in one process; a short run of each, not counted,
goes before, so that nobody is charged for imports. "Times" says how many of kancl's runs
fit into one: the median over the turns of the ratio within a turn.

    kancl bench runs --efficient-kan PATH_OF_A_CHECKOUT --csv runs.csv
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.logging import TensorboardLogger
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive
from torch import nn

from kancl.bench.harness import (
    Step,
    Timing,
    command,
    execute,
    finished_run,
    positive,
    take_turns,
)
from kancl.bench.others import (
    load_efficient_kan,
    stock_split_mnist,
    torchvision_folder,
    train_and_evaluate,
)
from kancl.models import MLP
from kancl.models.cost import n_parameters
from kancl.reporting.table import Column, Table, count, percent
from kancl.runner import build, read_request

EVAL_BATCH_SIZE = 256
WARM_UP_SAMPLES = 20

MODELS = ("kan", "mlp")
COLUMNS = (
    Column("variant"),
    Column("model"),
    Column("parameters", count),
    Column("seconds", "{:.2f}".format),
    Column("times", "{:.2f}".format),
    Column("CPU seconds", "{:.2f}".format),
    Column("times CPU", "{:.2f}".format),
    Column("accuracy", percent, "%"),
    Column("learning", percent, "%"),
    Column("all seconds"),
)

Outcome = tuple[float, float]
"""Average accuracy after the last experience, learning accuracy."""

Variant = tuple[str, str, int]
"""Name, model, parameters."""

Train = Callable[[int, "int | None", Path], Outcome]
"""A whole run, given the seed, the images per class and torchvision's folder."""


def bench_runs(
    efficient_kan: str | Path | None = None,
    batch_size: int = 64,
    repeats: int = 3,
    samples: int | None = None,
    models: Sequence[str] = MODELS,
) -> dict[Variant, Timing]:
    """Time whole runs of all variants in turns, on the CPU.

    Args:
        efficient_kan: a checkout of efficient-kan; None: no stock run of a KAN.
        samples: train and test on so many images of each class, for a quick look.
        models: ``kan``: [784, 64, 10], G=5, cubic; ``mlp``: with as many parameters.
    """
    runs: dict[Variant, Train] = {}
    for model in models:
        words = _words(model, batch_size, seed=0, samples=1)
        size = build(read_request(words, sweep=False).configs[0]).size
        runs["kancl", model, size.n_parameters] = partial(_ours, model, batch_size)
        make: Callable[[], nn.Module]
        if model == "mlp":
            make = partial(MLP, [784, *size.hidden, 10])
        elif efficient_kan is not None:
            make = partial(load_efficient_kan(efficient_kan), [784, 64, 10])
        else:
            continue
        name = "Avalanche" + (" + efficient-kan" if model == "kan" else "")
        runs[name, model, n_parameters(make())] = partial(_stock, make, batch_size)

    def prepared(train: Train, samples: int | None, data: Path) -> Callable[[int], Step]:
        return lambda seed: partial(train, seed, samples, data)

    timings: dict[Variant, Timing] = {}
    for turns, n in ((1, WARM_UP_SAMPLES), (repeats, samples)):
        with torchvision_folder(n) as data:
            variants = {str(key): prepared(run, n, data) for key, run in runs.items()}
            timings = dict(zip(runs, take_turns(variants, turns).values()))
    return timings


def _words(model: str, batch_size: int, seed: int, samples: int | None) -> list[str]:
    per_experience = "null" if samples is None else 2 * samples
    words = [
        "scenario=split_mnist",
        "scenario.normalize=standard",
        f"scenario.train_samples={per_experience}",
        f"scenario.test_samples={per_experience}",
        f"model={model}",
        "strategy=naive",
        f"training.batch_size={batch_size}",
        f"training.eval_batch_size={EVAL_BATCH_SIZE}",
        f"seed={seed}",
        "device=cpu",
    ]
    return words + ["match=params"] * (model == "mlp")


def _ours(
    model: str, batch_size: int, seed: int, samples: int | None, data: Path
) -> Outcome:
    """``kancl run``, into a folder of its own, on the images in the package."""
    with tempfile.TemporaryDirectory() as folder:
        words = _words(model, batch_size, seed, samples)
        summary = finished_run([*words, f"log_dir={folder!r}"])
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
            eval_mb_size=EVAL_BATCH_SIZE,
            evaluator=EvaluationPlugin(
                accuracy_metrics(epoch=True, experience=True, stream=True),
                loggers=[board],
            ),
        )
        metrics = train_and_evaluate(learner, benchmark)
        board.writer.close()
    name = "Top1_Acc_Exp/eval_phase/test_stream/Task000/Exp{:03d}"
    rows = [[row[name.format(k)] for k in range(len(metrics))] for row in metrics]
    return fmean(rows[-1]), fmean(row[k] for k, row in enumerate(rows))


def _table(**options: object) -> Iterator[Table]:
    timings = bench_runs(**options)  # type: ignore[arg-type]
    ours = {key[1]: timing for key, timing in timings.items() if key[0] == "kancl"}
    rows = [
        (
            *key,
            timing.median,
            timing.times(ours[key[1]]),
            timing.cpu_median,
            timing.cpu_times(ours[key[1]]),
            *map(fmean, zip(*timing.results)),
            " ".join(f"{seconds:.1f}" for seconds in timing.seconds),
        )
        for key, timing in timings.items()
    ]
    yield Table("", COLUMNS, rows)


def main(argv: Sequence[str] | None = None) -> int:
    parser = command("runs", __doc__)
    parser.add_argument("--efficient-kan", metavar="PATH", help="a checkout of it")
    parser.add_argument("--batch-size", type=positive, default=64)
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument(
        "--samples", type=positive, help="images per class; all if left out"
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    return execute(parser, _table, argv)
