"""Runs over seeds in TensorBoard: means with their bands, which it does not make itself.

The custom-scalars tab shows a chart per benchmark, model and strategy, a band per
experience, and one chart with the mean over the experiences seen of every variant.
TensorBoard colours by run and selects no more than 40 of itself, so experience k of a
benchmark is one run, with the curves of all variants.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from kancl.reporting.curves import Band, Curves, Line
from kancl.reporting.figures import forgetting_curves
from kancl.reporting.report.figures import mean_matrix, plain
from kancl.reporting.report.variants import Benchmark, Variant
from kancl.reporting.tensorboard import write_picture


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
        pairs = [(variant, variant.curves) for variant in benchmark.variants]
        several = [(v, curves) for v, curves in pairs if curves and curves.n_seeds > 1]
        if several:
            written.append(folder / benchmark.slug)
            _write(written[-1], benchmark, several, pictures)
    return written


def _write(
    folder: Path,
    benchmark: Benchmark,
    variants: Sequence[tuple[Variant, Curves]],
    pictures: bool,
) -> None:
    score = benchmark.score
    seen = f"{score.name}_on_seen"

    def tags(what: str) -> list[str]:
        """Tags in the order that a chart with a margin wants: value, lower, upper."""
        tag = f"over_seeds/{benchmark.slug}/{file_name(what)}"
        return [f"{tag}/{end}" for end in ("mean", "low", "high")]

    def write_band(writer: SummaryWriter, what: str, line: Line, band: Band) -> None:
        for (iteration, *mean), (_, *ends) in zip(line, band):
            for tag, number in zip(tags(what), [*mean, *ends]):
                writer.add_scalar(tag, number, iteration)

    for k in range(max(curves.n_experiences for _, curves in variants)):
        with SummaryWriter(str(folder / f"experience_{k + 1}")) as writer:
            for variant, curves in variants:
                write_band(writer, variant.label, curves.points[k], curves.bands[k])
    for variant, curves in variants:
        with SummaryWriter(str(folder / file_name(variant.label))) as writer:
            write_band(writer, seen, curves.seen(), curves.seen_band)
            if pictures:
                labelled = [replace(curves, label=plain(variant.label))]
                drawn = {"forgetting_curves": forgetting_curves(labelled)}
                if variant.matrices is not None:
                    drawn[f"{score.name}_matrix"] = mean_matrix(variant)
                for name, figure in drawn.items():
                    tag = f"over_seeds/picture/{name}"
                    write_picture(writer, tag, figure, curves.last_iteration)
    strategies = list(dict.fromkeys(variant.strategy for variant, _ in variants))
    ordered = [v.label for s in strategies for v, _ in variants if v.strategy == s]
    charts = {f"{score.title} on the experiences seen": seen}
    charts |= {label: label for label in reversed(ordered)}  # shown last first
    margins = {name: ["Margin", tags(what)] for name, what in charts.items()}
    title = f"{benchmark.title}: mean over seeds, 95 % band"
    with SummaryWriter(str(folder)) as writer:
        writer.add_custom_scalars({title: margins})


def file_name(label: str) -> str:
    """A label as the name of one folder, whatever stands in it."""
    return re.sub(r"[^A-Za-z0-9._=+-]+", "_", label).strip("._") or "variant"
