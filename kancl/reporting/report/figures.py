"""The report's figures, as SVG that follows the page's colours, light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kancl.metrics.statistics import Interval, t_interval
from kancl.reporting.colours import FAINT, INK, KAN, model_colours
from kancl.reporting.comparison import model_title
from kancl.reporting.figures import quiet
from kancl.reporting.report.variants import Benchmark, Side
from kancl.reporting.report.verdicts import COMPARED, Comparison

MARKERS = "osD^vP*Xphd<>8H"
WAYS = {
    "forgetting": "← KAN forgets less  |  more →",
    "learning_accuracy": "← KAN learns less  |  more →",
    "average_accuracy": "← KAN ends lower  |  higher →",
}
PAGE = "#FEFEFE"
"""Stands for the page's background."""


def differences(comparisons: Sequence[Comparison]) -> Figure:
    """KAN - MLP with its 95 % interval, a row per pair, a panel per metric.

    Seeds are drawn faint. Filled: the verdict's tests show a difference.
    """
    n = len(comparisons)
    figure = Figure(figsize=(9.6, 0.95 + 0.34 * n), layout="constrained", dpi=150)
    panels = figure.subplots(1, len(COMPARED), sharey=True, squeeze=False)[0]
    for axes, (metric, title) in zip(panels, COMPARED.items()):
        axes.axvline(0, color=FAINT, linewidth=1, zorder=0)
        for row, comparison in enumerate(comparisons):
            _difference(axes, comparison, metric, row)
        axes.set_title(title, fontsize=10, fontweight="bold", color=INK)
        axes.set_xlabel(f"points\n{WAYS[metric]}", fontsize=8, color=INK)
        reach = max(max(map(abs, axes.get_xlim())), 1.0)
        axes.set_xlim(-reach, reach)
        axes.set_ylim(n - 0.4, -0.6)
        quiet(axes)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
    kinds = {c.title for c in comparisons}
    names = [c.strategy if len(kinds) == 1 else _row(c) for c in comparisons]
    panels[0].set_yticks(range(n), list(map(plain, names)), fontsize=9, color=INK)
    return figure


def _difference(axes: Axes, comparison: Comparison, metric: str, row: int) -> None:
    difference = comparison.differences[metric]
    if difference is None:
        axes.text(0, row, "n/a", ha="center", va="center", fontsize=8, color=INK)
        return
    shown = comparison.finding(metric) in ("lower", "higher")
    colour = KAN if shown else FAINT
    seeds = [100 * value for value in difference.values]
    axes.plot(seeds, [row] * len(seeds), "|", color=colour, alpha=0.5, markersize=9)
    if difference.interval is not None:
        low, high = (100 * end for end in difference.interval)
        axes.plot([low, high], [row, row], color=colour, linewidth=2.2)
    face = colour if shown else PAGE
    style: dict[str, Any] = {
        "markerfacecolor": face,
        "markeredgecolor": colour,
        "markersize": 6.5,
    }
    axes.plot([100 * difference.mean], [row], "o", zorder=4, **style)


def _row(comparison: Comparison) -> str:
    sides = f"{model_title(comparison.kan.model)} - {model_title(comparison.mlp.model)}"
    variant = comparison.kan.variant or comparison.mlp.variant
    name = f"{sides}, {comparison.strategy}"
    return f"{name} ({variant[:30]})" if variant else name


def stability_plasticity(benchmark: Benchmark) -> Figure | None:
    """Forgetting against learning accuracy: the upper right corner is where to be.

    Small: seeds; large: their mean with 95 % intervals both ways. None where forgetting
    is undefined.
    """
    sides = [side for side in benchmark.sides if _both(side)]
    if not sides:
        return None
    figure = Figure(figsize=(6.4, 4.2), layout="constrained", dpi=150)
    axes = figure.subplots()
    strategies = list(dict.fromkeys(side.strategy for side in sides))
    colours = model_colours(side.model for side in sides)
    for side in sides:
        colour = colours[side.model]
        marker = MARKERS[strategies.index(side.strategy) % len(MARKERS)]
        seeds = _both(side)
        style: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": ""}
        x, y = [100 * a for a, _ in seeds], [100 * b for _, b in seeds]
        axes.plot(x, y, markersize=4, alpha=0.3, markeredgewidth=0, **style)
        centre = fmean(x), fmean(y)
        for values, across in ((x, True), (y, False)):
            interval = t_interval(values)
            if interval is not None:
                axes.plot(*_bar(interval, centre, across), color=colour, linewidth=1)
        axes.plot(*[[c] for c in centre], markersize=9, zorder=4, **style)
    axes.invert_yaxis()
    axes.set_xlabel("learning accuracy, %  (plasticity →)", fontsize=9, color=INK)
    axes.set_ylabel("forgetting, %  (stability ↑)", fontsize=9, color=INK)
    axes.grid(color=FAINT, alpha=0.25, linewidth=0.6)
    handles = [
        Line2D([], [], color=colour, linewidth=5, label=plain(model_title(model)))
        for model, colour in colours.items()
    ]
    handles += [
        Line2D(
            [],
            [],
            color=FAINT,
            linestyle="",
            marker=MARKERS[k % len(MARKERS)],
            label=plain(strategy),
        )
        for k, strategy in enumerate(strategies)
    ]
    legend = figure.legend(
        handles=handles, loc="outside right center", fontsize=8, frameon=False
    )
    for text in legend.get_texts():
        text.set_color(INK)
    quiet(axes)
    return figure


def _both(side: Side) -> list[tuple[float, float]]:
    """(learning accuracy, forgetting) of the seeds that have both."""
    learned, forgot = side.by_seed("learning_accuracy"), side.by_seed("forgetting")
    return [(learned[seed], forgot[seed]) for seed in learned if seed in forgot]


def _bar(
    interval: Interval, centre: tuple[float, float], across: bool
) -> tuple[list[float], list[float]]:
    if across:
        return list(interval), [centre[1]] * 2
    return [centre[0]] * 2, list(interval)


def plain(text: str, longest: int = 48) -> str:
    """Words from a file: no formula, however many dollars they hold; cut if long."""
    cut = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return cut.replace("$", r"\$")


def svg(figure: Figure, description: str) -> str:
    """The figure as an ``<svg>`` element that stands in a page.

    ``INK`` becomes the page's text colour. Letters stay text, in the page's font.

    Args:
        description: what a screen reader says.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": description}):
        figure.savefig(
            buffer,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    content = buffer.getvalue()
    content = content[content.index("<svg") :]
    content = re.sub(r"<metadata>.*?</metadata>", "", content, flags=re.DOTALL)
    content = re.sub(r"<!--.*?-->", "", content, flags=re.DOTALL)
    content = re.sub(r"<style.*?</style>", "", content, flags=re.DOTALL)
    content = re.sub(r' id="[a-z0-9.]+_\d+"', "", content)
    content = re.sub(r" font-family: [^;]*;", "", content)
    content = content.replace(INK, "currentColor").replace(PAGE.lower(), "var(--page)")
    width = re.search(r'width="([\d.]+)pt"', content)
    assert width is not None
    label = (
        description.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    )
    head = f'<svg role="img" aria-label="{label}" style="max-width: {width[1]}pt"'
    content = content.replace("<svg", head, 1)
    return re.sub(r' (width|height)="[\d.]+pt"', "", content, count=2)
