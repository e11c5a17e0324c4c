"""What looking costs: whole runs with continual evaluation, with the diagnosis, without.

``curve``: every ``--every`` iterations the accuracy on ``--samples`` test images of every
experience seen so far is measured, of those to come every fifth time
(``evaluation.every_iterations``, ``evaluation.samples``).
``locality``: what ``kancl locality`` needs (``evaluation.locality``), beside the usual
forgetting curves. All take turns in one process, on data and weights of the same seed;
TensorBoard writes its numbers. The cost is the median over the turns of the ratio within
a turn, in CPU seconds, which leave out what a run waited for others. A point on s images
has a standard error of at most 0.5 / sqrt(s); the smaller the sample, the cheaper and
the coarser.

    kancl bench evaluation --samples 64 --every 10
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from kancl.bench.harness import (
    Step,
    Timing,
    command,
    execute,
    finished_run,
    positive,
    take_turns,
    verdict,
)
from kancl.reporting.table import Column, Table

TARGETS = {"curve": 0.1, "locality": 0.05}
"""Largest share of a run's time that each may take."""

MODELS = ("mlp", "kan")
COLUMNS = (
    Column("model"),
    Column("look"),
    Column("CPU s without", "{:.2f}".format),
    Column("with", "{:.2f}".format),
    Column("points", str),
    Column("cost", "{:.1%}".format),
    Column("target", "< {:.0%}".format),
    Column("verdict"),
)


def bench_evaluation(
    every: int = 10,
    samples: int = 64,
    batch_size: int = 128,
    repeats: int = 3,
    models: Sequence[str] = MODELS,
    images: int | None = None,
    device: str = "cpu",
) -> dict[tuple[str, str], tuple[Timing, Timing]]:
    """Time runs without and with each look, by model; results are the curves' points.

    Args:
        images: of each experience, to train and to test on; None: all.
    """
    curve = [f"evaluation.every_iterations={every}", f"evaluation.samples={samples}"]
    looks = {
        "curve": (["evaluation.samples=0"], curve),
        "locality": ([], ["evaluation.locality=true"]),
    }
    words = {
        (model, look, side): [f"model={model}", *looks[look][side]]
        for model in models
        for look in looks
        for side in (0, 1)
    }
    shared = [f"training.batch_size={batch_size}", f"device={device}"]

    def prepare(own: Sequence[str], images: int | None, seed: int) -> Step:
        few = "null" if images is None else images
        said = [f"scenario.{kind}_samples={few}" for kind in ("train", "test")]
        return partial(_points, [*shared, *said, *own, f"seed={seed}"])

    timings: dict[str, Timing] = {}
    for n, turns in ((64, 1), (images, repeats)):  # the first, not counted, compiles
        variants = {str(k): partial(prepare, own, n) for k, own in words.items()}
        timings = take_turns(variants, turns)
    by_key = dict(zip(words, timings.values()))
    return {
        (model, look): (by_key[model, look, 0], by_key[model, look, 1])
        for model in models
        for look in looks
    }


def _points(words: Sequence[str]) -> int:
    """Make a run; returns how many points its curve has."""
    with tempfile.TemporaryDirectory() as folder:
        fixed = ["match=params", "tensorboard=numbers", f"log_dir={folder!r}"]
        summary = finished_run([*fixed, *words])
    keys = dict(word.split("=") for word in words)
    every = int(keys.get("evaluation.every_iterations", 0))
    return summary["n_iterations"] // every if every else 0


def _table(**options: Any) -> Iterator[Table]:
    rows = []
    for (model, look), (without, watched) in bench_evaluation(**options).items():
        share = watched.cpu_times(without) - 1
        seconds = without.cpu_median, watched.cpu_median
        target = TARGETS[look]
        passed = verdict(share < target)
        points = watched.results[-1]
        rows.append((model, look, *seconds, points, share, target, passed))
    error = 0.5 / math.sqrt(options["samples"])
    note = f"standard error of a point: at most {error:.3f}"
    yield Table("", COLUMNS, rows, notes=[note])


def main(argv: Sequence[str] | None = None) -> int:
    parser = command("evaluation", __doc__)
    parser.add_argument("--every", type=positive, default=10, help="iterations")
    parser.add_argument(
        "--samples", type=positive, default=64, help="images of each; 64"
    )
    parser.add_argument("--batch-size", type=positive, default=128)
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--images", type=positive, help="of each experience; all")
    parser.add_argument("--device", default="cpu")
    return execute(parser, _table, argv)
