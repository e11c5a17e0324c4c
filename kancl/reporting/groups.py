"""A comparison's groups, a model with a strategy each, as TensorBoard runs and figures."""

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure

from kancl.reporting import figures
from kancl.reporting.curves import Curves
from kancl.reporting.events import (
    BOUNDARIES,
    FIRST,
    EventWriter,
    curve_names,
    write_boundary,
    write_hparams,
    write_picture,
)
from kancl.reporting.measures import CONTINUAL, COSTS, METRICS
from kancl.reporting.table import UNDEFINED
from kancl.reporting.variants import Benchmark, Variant, unlike

BAND = ("low", "high")
MOST_PANELS = 3
"""Figures side by side."""


def write_groups(
    folder: Path, benchmarks: Sequence[Benchmark], *, pictures: bool = True
) -> list[Path]:
    """Write what TensorBoard shows of every model and strategy that has curves: their
    means over the seeds, in a run named after both, and of several seeds the ends of the
    95 % band in two more, ``low`` and ``high``. The custom-scalars tab draws them as bands.

    Returns: the folders of the means.
    """
    written = []
    for benchmark in benchmarks:
        place = f"-{benchmark.slug}" if len(benchmarks) > 1 else ""
        groups = [(v, v.curves) for v in benchmark.variants]
        shown = [(v, curves) for v, curves in groups if curves is not None]
        layout = _layout(benchmark, [curves for _, curves in shown])
        for variant, curves in shown:
            written.append(folder / file_name(variant.label + place))
            with EventWriter(written[-1]) as writer:
                writer.add_custom_scalars(layout)
                _write_curves(writer, written[-1], curves)
                _write_summary(writer, benchmark, variant, curves)
                for name, figure in _figures(variant, curves) if pictures else ():
                    at = curves.last_iteration
                    write_picture(writer, variant.label, name, figure, at)
        ends = {curves.boundaries[:-1] for _, curves in shown}
        if len(ends - {()}) == 1:  # lines for all of them, or for none
            (boundaries,) = ends - {()}
            n = max(curves.n_experiences for _, curves in shown)
            with EventWriter(folder / (BOUNDARIES + place)) as writer:
                for at in boundaries:
                    write_boundary(writer, benchmark.score, n, at)
    return written


def forgetting_curves(benchmark: Benchmark) -> Figure | None:
    """The mean curves of all groups, a row or more per strategy; None without any."""
    rows: dict[str, list[Curves]] = {}
    for variant in benchmark.variants:
        if curves := variant.curves:
            label = plain(variant.label)
            rows.setdefault(variant.strategy, []).append(replace(curves, label=label))
    if not rows:
        return None
    n_columns = min(MOST_PANELS, max(map(len, rows.values())))
    panels = [curves for row in rows.values() for curves in row]
    return figures.forgetting_curves(panels, benchmark.title, n_columns)


def mean_matrix(variant: Variant) -> Figure:
    matrices, label = variant.matrices, plain(variant.label)
    assert matrices is not None
    n = len(matrices)
    spread = matrices.std(0) if n > 1 else None
    return figures.score_matrix(matrices.mean(0), label, spread, variant.score, n)


def plain(text: str, longest: int = 48) -> str:
    """Words from a file: no formula, however many dollars they hold; cut if long."""
    cut = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return cut.replace("$", r"\$")


def file_name(label: str) -> str:
    """A label as the name of one folder, whatever stands in it."""
    return re.sub(r"[^A-Za-z0-9._=+-]+", "_", label).strip("._") or "variant"


def _write_curves(writer: EventWriter, folder: Path, curves: Curves) -> None:
    lines = [curves.seen(), *curves.points]
    bands = [curves.seen_band, *curves.bands] if curves.bands else []
    for curve, line in zip(curve_names(curves.n_experiences), lines):
        for at, value in line:
            writer.add_scalar(f"{curves.score.name}/{curve}", value, at)
    if not bands:
        return
    with ExitStack() as open_files:
        ends = [open_files.enter_context(EventWriter(folder / end)) for end in BAND]
        for curve, line, band in zip(curve_names(curves.n_experiences), lines, bands):
            for (at, mean), (_, *limits) in zip(line, band):
                for end, value in zip(ends, limits):
                    end.add_scalar(f"{curves.score.name}/{curve}", value, at)
                # one chart of the custom-scalars tab takes all three from one run
                for what, value in zip(("mean", *BAND), (mean, *limits)):
                    writer.add_scalar(f"band/{curve}/{what}", value, at)


def _write_summary(
    writer: EventWriter, benchmark: Benchmark, variant: Variant, curves: Curves
) -> None:
    seeds, words = ", ".join(map(str, variant.seeds)), figures.in_seeds(curves.n_seeds)
    writer.add_text(
        "about", f"# {variant.label}\n\n{benchmark.title}: {words} ({seeds})"
    )
    found = {key: [*variant.by_seed(key).values()] for key in (*METRICS, *CONTINUAL)}
    found |= {key: variant.numbers(key) for key in COSTS}
    means = {key: fmean(values) for key, values in found.items() if values}
    each = [other.settings for other in benchmark.variants]
    telling = [key for key in unlike(each) if all(key in one for one in each)]
    settings = {k: variant.settings.get(k, UNDEFINED) for k in (*FIRST, *telling)}
    settings["seed"] = seeds if curves.n_seeds == 1 else words
    del settings["scenario.name"]  # the comparison's title says it
    write_hparams(writer, settings, means, curves.last_iteration)


def _figures(variant: Variant, curves: Curves) -> list[tuple[str, Figure]]:
    drawn = [replace(curves, label=plain(variant.label))]
    pictures = [("forgetting_curves", figures.forgetting_curves(drawn))]
    if variant.matrices is not None:
        pictures.append((f"{variant.score.name}_matrix", mean_matrix(variant)))
    return pictures


def _layout(benchmark: Benchmark, curves: Sequence[Curves]) -> dict[str, Any]:
    """Charts of all groups, the title first to say which."""
    score = benchmark.score
    names = curve_names(max((c.n_experiences for c in curves), default=0))
    counts = sorted({c.n_seeds for c in curves})
    charts = {}
    for name in reversed(names):  # shown last first
        what = "the experiences seen" if name == "seen" else name.replace("_", " ")
        tags = [f"band/{name}/{end}" for end in ("mean", *BAND)]
        chart = ["Margin", tags]
        if counts == [1]:
            chart = ["Multiline", [f"{score.name}/{name}$"]]
        charts[f"{score.title} on {what}"] = chart
    models, strategies = (
        ", ".join(dict.fromkeys(getattr(v, which) for v in benchmark.variants))
        for which in ("model", "strategy")
    )
    over = " to ".join(map(str, dict.fromkeys((*counts[:1], *counts[-1:]))))
    band = "1 seed" if counts == [1] else f"mean over {over} seeds, 95 % band"
    return {f"{models} with {strategies} on {benchmark.title}: {band}": charts}
