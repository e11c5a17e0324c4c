"""What looking costs: whole runs with continual evaluation, with the diagnosis, without.

``curve``: every ``--every`` iterations the accuracy on ``--samples`` test images of every
experience seen so far is measured, of those to come every fifth time
(``evaluation.every_iterations``, ``evaluation.samples``).
``locality``: what ``kancl locality`` needs (``evaluation.locality``), beside the usual
curve. Runs are Split MNIST, class-incremental and naive, one epoch each, Adam;
TensorBoard writes its numbers. The cost is the median over the turns of the ratio within
a turn, in CPU seconds, which leave out what a run waited for others. A point on s images
has a standard error of at most 0.5 / sqrt(s); the smaller the sample, the cheaper and
the coarser.

    kancl bench evaluation --samples 64 --every 10
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from kancl.bench.arguments import positive
from kancl.runner import read_request, run

TARGETS = {"curve": 0.1, "locality": 0.05}
"""Largest share of a run's time that each may take."""

MODELS = ("mlp", "kan")


@dataclass
class Cost:
    """CPU seconds of each turn, without and with something that looks.

    Args:
        look: a key of ``TARGETS``.
        n_points: of the curve of one run.
    """

    model: str
    look: str
    without: list[float] = field(default_factory=list)
    with_it: list[float] = field(default_factory=list)
    n_points: int = 0

    @property
    def share(self) -> float:
        """Of the time of the run without it."""
        ratios = [b / a for a, b in zip(self.without, self.with_it)]
        return statistics.median(ratios) - 1


def bench_evaluation(
    every: int = 10,
    samples: int = 64,
    batch_size: int = 128,
    repeats: int = 3,
    models: Sequence[str] = MODELS,
    images: int | None = None,
    device: str = "cpu",
) -> list[Cost]:
    """Time runs in turns; the first of each, which is not counted, compiles.

    Args:
        images: of each experience, to train and to test on; None: all.
    """
    costs = [Cost(model, look) for model in models for look in TARGETS]
    # Overrides of the run without, and of the one with it.
    curve = [f"evaluation.every_iterations={every}", f"evaluation.samples={samples}"]
    sides = {
        "curve": (["evaluation.samples=0"], curve),
        "locality": ([], ["evaluation.locality=true"]),
    }
    for turn in range(repeats + 1):
        n = 64 if turn == 0 else images
        few = "null" if n is None else n
        for cost in costs:
            words = [f"model={cost.model}", f"training.batch_size={batch_size}"]
            words += [f"scenario.{kind}_samples={few}" for kind in ("train", "test")]
            words += [f"device={device}", f"seed={turn}"]
            without, with_it = sides[cost.look]
            seconds, _ = _seconds([*words, *without])
            longer, cost.n_points = _seconds([*words, *with_it])
            if turn:
                cost.without.append(seconds)
                cost.with_it.append(longer)
    return costs


def _seconds(words: Sequence[str]) -> tuple[float, int]:
    """CPU seconds of a run, and how many points its curve has."""
    with tempfile.TemporaryDirectory() as folder:
        fixed = ["match=params", "tensorboard=numbers", f"log_dir={folder!r}"]
        (config,) = read_request([*fixed, *words], sweep=False).configs
        start = time.process_time()
        summary = run(config, quiet=True)
        seconds = time.process_time() - start
        if summary["status"] != "completed":
            raise RuntimeError(f"the run failed: {summary['error']}")
        every = config.evaluation.every_iterations
        points = summary["n_iterations"] // every if every else 0
    return seconds, points


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="kancl bench evaluation", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--every", type=positive, default=10, help="iterations")
    parser.add_argument(
        "--samples", type=positive, default=64, help="images of each; 64"
    )
    parser.add_argument("--batch-size", type=positive, default=128)
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--images", type=positive, help="of each experience; all")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=positive, default=1)
    options = vars(parser.parse_args(argv))
    torch.set_num_threads(options.pop("threads"))
    costs = bench_evaluation(**options)
    print(
        f"{'model':6}{'look':10}{'CPU s without':>14}{'with':>8}{'points':>8}"
        f"{'cost':>8}  target"
    )
    for cost in costs:
        a, b = statistics.median(cost.without), statistics.median(cost.with_it)
        target = TARGETS[cost.look]
        verdict = "PASS" if cost.share < target else "FAIL"
        print(
            f"{cost.model:6}{cost.look:10}{a:>14.2f}{b:>8.2f}{cost.n_points:>8}"
            f"{cost.share:>8.1%}  < {target:.0%} {verdict}"
        )
    error = 0.5 / math.sqrt(options["samples"])
    print(f"standard error of a point: at most {error:.3f}")
    return int(any(cost.share >= TARGETS[cost.look] for cost in costs))


if __name__ == "__main__":
    raise SystemExit(main())
