"""Runs over seeds in TensorBoard: means with their bands, which it does not make itself.

The custom-scalars tab shows a chart per benchmark, model and strategy, a band per
experience, and one chart with the accuracy on the experiences seen of every side.
TensorBoard colours by run and selects no more than 40 of itself, so experience k of a
benchmark is one run, with the curves of all sides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from kancl.reporting.curves import Curves
from kancl.reporting.figures import accuracy_matrix, as_pixels, forgetting_curves
from kancl.reporting.report.figures import plain
from kancl.reporting.report.variants import Benchmark, Side

OVER_SEEDS = {
    "over_seeds/<benchmark>/<model>-<strategy>/mean": "Mean over seeds of the "
    "forgetting curves (sub-runs experience_1, ...); `low` and `high` beside it are its "
    "95 % t-interval, point by point. The custom-scalars tab draws them as bands.",
    "over_seeds/<benchmark>/accuracy_on_seen/mean": "The same of the mean accuracy on "
    "the experiences seen so far, a run per model and strategy.",
    "over_seeds/picture/forgetting_curves": "The mean curves with bands and borders.",
    "over_seeds/picture/accuracy_matrix": "Mean accuracy matrix ± standard deviation.",
}
"""Tags of the runs over seeds, with their meaning."""

ENDS = ("mean", "low", "high")


def write_over_seeds(
    folder: Path | str, benchmarks: Sequence[Benchmark], *, pictures: bool = True
) -> list[Path]:
    """Write TensorBoard runs of every benchmark on which several seeds have curves.

    Returns: the benchmarks' folders.
    """
    folder = Path(folder)
    for left in folder.rglob("events.out.tfevents.*"):
        left.unlink()
    written = []
    for benchmark in benchmarks:
        sides = [
            (side, side.curves)
            for side in benchmark.sides
            if side.curves is not None and side.curves.n_seeds > 1
        ]
        if sides:
            written.append(folder / benchmark.slug)
            _write(written[-1], benchmark, sides, pictures)
    return written


def _write(
    folder: Path,
    benchmark: Benchmark,
    sides: Sequence[tuple[Side, Curves]],
    pictures: bool,
) -> None:
    for k in range(max(curves.n_experiences for _, curves in sides)):
        with SummaryWriter(str(folder / f"experience_{k + 1}")) as writer:
            for side, curves in sides:
                tags = _tags(benchmark, side.label)
                _write_band(writer, tags, curves.points[k], curves.bands[k])
    for side, curves in sides:
        with SummaryWriter(str(folder / file_name(side.label))) as writer:
            tags = _tags(benchmark, "accuracy_on_seen")
            _write_band(writer, tags, curves.seen(), curves.seen_band)
            if pictures:
                _draw(writer, side, curves)
    with SummaryWriter(str(folder)) as writer:
        writer.add_custom_scalars(_layout(benchmark, [side for side, _ in sides]))


def _draw(writer: SummaryWriter, side: Side, curves: Curves) -> None:
    drawn = {
        "forgetting_curves": forgetting_curves(
            [replace(curves, label=plain(side.label))]
        )
    }
    if side.matrices is not None:
        mean, spread = side.matrices.mean(0), side.matrices.std(0)
        drawn["accuracy_matrix"] = accuracy_matrix(mean, plain(side.label), spread)
    for name, figure in drawn.items():
        tag, image = f"over_seeds/picture/{name}", as_pixels(figure)
        writer.add_image(tag, image, curves.last_iteration, dataformats="HWC")


def _write_band(
    writer: SummaryWriter,
    tags: Sequence[str],
    line: Sequence[tuple[int, float]],
    band: Sequence[tuple[int, float, float]],
) -> None:
    for (iteration, *mean), (_, *ends) in zip(line, band):
        for tag, number in zip(tags, [*mean, *ends]):
            writer.add_scalar(tag, number, iteration)


def _layout(
    benchmark: Benchmark, sides: Sequence[Side]
) -> dict[str, dict[str, list[object]]]:
    """Of the custom-scalars tab: the band's tags in the order value, lower, upper."""
    strategies = list(dict.fromkeys(side.strategy for side in sides))
    paired = sorted(sides, key=lambda side: strategies.index(side.strategy))
    charts = {"accuracy on the experiences seen": "accuracy_on_seen"}
    charts |= {side.label: side.label for side in reversed(paired)}  # shown last first
    title = f"{benchmark.title}: mean over seeds, 95 % band"
    return {
        title: {
            name: ["Margin", _tags(benchmark, what)] for name, what in charts.items()
        }
    }


def _tags(benchmark: Benchmark, what: str) -> list[str]:
    return [f"over_seeds/{benchmark.slug}/{file_name(what)}/{end}" for end in ENDS]


def file_name(label: str) -> str:
    """A label as the name of one folder, whatever stands in it."""
    return re.sub(r"[^A-Za-z0-9._=+-]+", "_", label).strip("._") or "side"
