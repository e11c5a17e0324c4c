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
from itertools import product
from statistics import median
from typing import Literal

from kancl.bench.harness import (
    Prepare,
    Rows,
    Timing,
    command,
    finished_run,
    take_turns,
    verdict,
)

TARGETS = {"curve": 0.1, "locality": 0.05}
"""Largest share of a run's time that each may take."""


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
    """Time runs in turns; the first of each, which is not counted, compiles.

    Args:
        every: iterations between two points of the curve.
        samples: test images of each experience for a point.
        images: of each experience, to train and to test on; all if left out.
    """
    looks = {
        ("curve", False): ["evaluation.samples=0"],
        ("curve", True): [
            f"evaluation.every_iterations={every}",
            f"evaluation.samples={samples}",
        ],
        ("locality", False): [],
        ("locality", True): ["evaluation.locality=true"],
    }

    def prepare(model: str, own: Sequence[str], n: int | None) -> Prepare:
        few = "null" if n is None else n
        words = [f"scenario.{kind}_samples={few}" for kind in ("train", "test")]
        words += [f"training.batch_size={batch_size}", f"device={device}"]
        words += [f"model={model}", *own]
        return lambda turn: partial(_iterations, [*words, f"seed={turn}"])

    timings: dict[tuple[str, str, bool], Timing] = {}
    for turns, n in ((1, 64), (repeats, images)):
        variants: dict[tuple[str, str, bool], Prepare] = {
            (model, *look): prepare(model, own, n)
            for model, (look, own) in product(models, looks.items())
        }
        timings = take_turns(variants, turns)
    rows = []
    for model, look in product(models, TARGETS):
        without, with_it = timings[model, look, False], timings[model, look, True]
        cost, is_curve = with_it.cpu_times(without) - 1, look == "curve"
        row = {
            "model": model,
            "look": look,
            "CPU s without": median(without.cpu_seconds),
            "with": median(with_it.cpu_seconds),
            "points": with_it.results[-1] // every if is_curve else None,
            "largest standard error": 0.5 / math.sqrt(samples) if is_curve else None,
            "cost %": 100 * cost,
            "target %": 100 * TARGETS[look],
            "verdict": verdict(cost < TARGETS[look]),
        }
        rows.append(row)
    yield rows


def _iterations(words: Sequence[str]) -> int:
    """Make a run; returns how many iterations it took."""
    with tempfile.TemporaryDirectory() as folder:
        fixed = ["match=params", "tensorboard=numbers", f"log_dir={folder!r}"]
        iterations: int = finished_run([*fixed, *words])["n_iterations"]
    return iterations


main = command(bench_evaluation)
