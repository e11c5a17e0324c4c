"""The report's figures, as SVG that follows the page's colours, light or dark."""

import io
import re
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from statistics import fmean
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kancl.metrics.statistics import t_interval
from kancl.reporting import figures
from kancl.reporting.colours import FAINT, INK, KAN, model_colours
from kancl.reporting.groups import mean_matrix, plain
from kancl.reporting.measures import COMPARED, ERRORS, METRICS
from kancl.reporting.pairing import model_title, pair_title
from kancl.reporting.table import UNDEFINED
from kancl.reporting.variants import Benchmark
from kancl.reporting.verdicts import Comparison

MARKERS = "osD^vP*Xphd<>8H"
PAGE = "#FEFEFE"
WAYS = (
    ("forgets", "less", "more"),
    ("learns", "less", "more"),
    ("ends", "lower", "higher"),
)
NEEDLESS = (
    *(r"<metadata>.*?</metadata>", r"<!--.*?-->", r"<style.*?</style>"),
    *(r' id="[a-z0-9.]+_\d+"', r" font-family: [^;]*;"),
)


def differences(comparisons: Sequence[Comparison]) -> Figure:
    """Each difference with its 95 % interval, a row per pair, a panel per metric.

    Seeds are drawn faint. Filled: the verdict's tests show a difference.
    """
    n, metrics = len(comparisons), list(comparisons[0].differences)
    names = {model_title(c.compared.model) for c in comparisons}
    name = f"{names.pop()} " if len(names) == 1 else ""
    height = 0.95 + 0.34 * n
    figure, (panels,) = figures.new_figure(9.6, height, len(metrics), sharey=True)
    for axes, metric, (verb, *ends) in zip(panels, metrics, WAYS):
        if verb == "learns" and metric in ERRORS:
            ends.reverse()
        axes.axvline(0, color=FAINT, linewidth=1, zorder=0)
        for row, comparison in enumerate(comparisons):
            _difference(axes, comparison, metric, row)
        way = f"← {name}{verb} {ends[0]}  |  {ends[1]} →"
        unit = "points" if METRICS[metric].unit == "%" else "RMSE"
        figures.label_axes(axes, f"{unit}\n{way}", size=8)
        axes.set_title(METRICS[metric].words, fontsize=10, fontweight="bold", color=INK)
        reach = max(*map(abs, axes.get_xlim()), 0.0 if metric in ERRORS else 1.0)
        axes.set(xlim=(-reach, reach), ylim=(n - 0.4, -0.6))
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
    rows = [f"{c.strategy}, {_seeds(c.n_pairs)}" for c in comparisons]
    if len({c.title for c in comparisons}) > 1:
        for k, c in enumerate(comparisons):
            words = c.compared.distinction or c.reference.distinction
            settings = f" ({words[:30]})" if words else ""
            rows[k] = f"{pair_title(*c.both)}, {rows[k]}{settings}"
    panels[0].set_yticks(range(n), list(map(plain, rows)), fontsize=9, color=INK)
    return figure


def _seeds(n: int) -> str:
    return "1 seed" if n == 1 else f"{n} seeds"


def _scale(metric: str) -> int:
    return 100 if METRICS[metric].unit == "%" else 1


def _difference(axes: Any, comparison: Comparison, metric: str, row: int) -> None:
    difference, scale = comparison.differences[metric], _scale(metric)
    if difference is None:
        axes.text(0, row, UNDEFINED, fontsize=8, color=INK, **figures.CENTRED)
        return
    shown = comparison.is_shown(metric)
    colour = KAN if shown else FAINT
    seeds = [scale * value for value in difference.values]
    axes.plot(seeds, [row] * len(seeds), "|", color=colour, alpha=0.5, markersize=9)
    if difference.interval is not None:
        ends = [scale * end for end in difference.interval]
        axes.plot(ends, [row, row], color=colour, linewidth=2.2)
    style: Any = {"mec": colour, "mfc": colour if shown else PAGE, "markersize": 6.5}
    axes.plot([scale * difference.mean], [row], "o", zorder=4, **style)


def stability_plasticity(benchmark: Benchmark) -> Figure | None:
    """What was lost against what was learned: the upper right corner is where to be.

    Small: seeds; large: their mean with 95 % intervals both ways. None where forgetting
    is undefined.
    """
    lost, learned, _ = COMPARED[benchmark.score.name]
    measured = []
    for variant in benchmark.variants:
        a, b = variant.by_seed(learned), variant.by_seed(lost)
        if seeds := [(a[seed], b[seed]) for seed in a if seed in b]:
            measured.append((variant, seeds))
    if not measured:
        return None
    figure, ((axes,),) = figures.new_figure(6.4, 4.2)
    strategies = list(dict.fromkeys(v.strategy for v, _ in measured))
    markers = {s: MARKERS[k % len(MARKERS)] for k, s in enumerate(strategies)}
    colours = model_colours(v.model for v, _ in measured)
    for variant, seeds in measured:
        colour = colours[variant.model]
        style: Any = {"color": colour, "ls": "", "marker": markers[variant.strategy]}
        x, y = ([_scale(lost) * value for value in values] for values in zip(*seeds))
        axes.plot(x, y, markersize=4, alpha=0.3, markeredgewidth=0, **style)
        centre = fmean(x), fmean(y)
        across, up = t_interval(x), t_interval(y)
        if across is not None and up is not None:
            axes.plot(across, [centre[1]] * 2, color=colour, linewidth=1)
            axes.plot([centre[0]] * 2, up, color=colour, linewidth=1)
        axes.plot(*[[c] for c in centre], markersize=9, zorder=4, **style)
    axes.invert_yaxis()
    if learned in ERRORS:
        axes.invert_xaxis()
    x_name, y_name = (METRICS[m].name.replace(" %", ", %") for m in (learned, lost))
    x_name, y_name = f"{x_name}  (plasticity →)", f"{y_name}  (stability ↑)"
    counts = sorted({len(seeds) for _, seeds in measured})
    title = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    title += " seed" if title == "1" else " seeds each"
    figures.label_axes(axes, x_name, y_name, title, size=9)
    axes.grid(color=FAINT, alpha=0.25, linewidth=0.6)
    handles = [
        Line2D([], [], color=colour, linewidth=5, label=plain(model_title(model)))
        for model, colour in colours.items()
    ]
    handles += [
        Line2D([], [], color=FAINT, linestyle="", marker=marker, label=plain(strategy))
        for strategy, marker in markers.items()
    ]
    where: Any = {"loc": "outside right center", "frameon": False}
    figure.legend(handles=handles, fontsize=8, labelcolor=INK, **where)
    return figure


def curves(benchmark: Benchmark) -> dict[str, Figure]:
    """Forgetting curves, up to three side by side of what had the same strategy."""
    drawn = {}
    for strategy in dict.fromkeys(v.strategy for v in benchmark.variants):
        same = [v.curves for v in benchmark.variants if v.strategy == strategy]
        shown = [replace(c, label=plain(c.label)) for c in same if c]
        for k in range(0, len(shown), 3):
            name = f"forgetting curves, {strategy}" + (f" {k}" if k else "")
            drawn[name] = figures.forgetting_curves(shown[k : k + 3])
    return drawn


def matrices(benchmark: Benchmark) -> dict[str, Figure]:
    return {
        f"{benchmark.score.title} matrix of {variant.label}": mean_matrix(variant)
        for variant in benchmark.variants
        if variant.matrices is not None
    }


def svg(figure: Figure, description: str) -> Markup:
    """An ``<svg>`` element, described for screen readers; ``INK`` is the page's colour."""
    buffer = io.StringIO()
    nobody = dict.fromkeys(["Date", "Creator", "Format", "Type"])
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": description}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=nobody)
    content = buffer.getvalue()
    content = content[content.index("<svg") :]
    for needless in NEEDLESS:
        content = re.sub(needless, "", content, flags=re.DOTALL)
    content = content.replace(INK, "currentColor").replace(PAGE.lower(), "var(--page)")
    width = re.search(r'width="([\d.]+)pt"', content)
    assert width is not None
    head = f'<svg role="img" aria-label="{escape(description)}"'
    content = content.replace("<svg", f'{head} style="max-width: {width[1]}pt"', 1)
    return Markup(re.sub(r' (width|height)="[\d.]+pt"', "", content, count=2))
