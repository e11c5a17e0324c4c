"""Figures: forgetting curves, matrices of scores, learned edge functions.

Made with matplotlib's objects alone: no pyplot state, no global settings, no window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from kancl.metrics.score_matrix import ACCURACY, Score
from kancl.reporting.colours import CELL_INK, FAINT, INK, experience_colour
from kancl.reporting.curves import Curves

CENTRED: dict[str, Any] = {"ha": "center", "va": "center"}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches whose parts make room for each other."""
    return Figure(figsize=(width, height), layout="constrained", dpi=150)


def label_axes(
    axes: Axes, x: str = "", y: str = "", title: str = "", size: int = 10
) -> None:
    """Say in ink what the axes show."""
    axes.set_xlabel(x, fontsize=size, color=INK)
    axes.set_ylabel(y, fontsize=size, color=INK)
    axes.set_title(title, fontsize=size, color=INK)


def despine(axes: Axes, frame: bool = True) -> None:
    """Take away the ink that says nothing."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_visible(frame)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=8, length=3 if frame else 0, color=FAINT)


def as_pixels(figure: Figure) -> np.ndarray:
    """The figure drawn for the screen, ``(height, width, 3)`` uint8."""
    figure.set_dpi(120)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def forgetting_curves(runs: Sequence[Curves], title: str = "") -> Figure:
    """The score on every experience against training iterations, a panel per run.

    The coloured strip on top says which experience is in training, and is the legend.
    What lies before an experience's own training is drawn faint; the dashed line is
    the mean over the experiences seen so far. Means of several seeds have the band of
    their 95 % interval.
    """
    if not runs:
        raise ValueError("no runs to draw")
    figure = new_figure(0.8 + 4.6 * len(runs), 3.5)
    panels = figure.subplots(1, len(runs), sharey=True, squeeze=False)[0]
    for axes, run in zip(panels, runs):
        label_axes(axes, "training iterations")
        _forgetting_panel(axes, run)
    if runs[0].score.higher_is_better:
        ticks = [0, 0.25, 0.5, 0.75, 1]
        panels[0].set_yticks(ticks, ["0", "25 %", "50 %", "75 %", "100 %"])
        panels[0].set_ylim(-0.02, 1.02)
    else:
        panels[0].set_ylim(bottom=0)
    y = f"{runs[0].score.title} on each experience"
    panels[0].set_ylabel(y, color=INK, fontsize=10)
    if title:
        figure.suptitle(title, color=INK, fontsize=11)
    return figure


def _forgetting_panel(axes: Axes, run: Curves) -> None:
    end = max(run.last_iteration, 1)
    for boundary in run.boundaries[:-1]:
        axes.axvline(boundary, color=FAINT, linewidth=0.8, zorder=0)
    for k in range(run.n_experiences):
        colour = experience_colour(k)
        before, since = run.split(k)
        axes.plot(*_xy(before), color=colour, linewidth=1, alpha=0.3, zorder=1)
        axes.plot(*_xy(since), color=colour, linewidth=1.8, zorder=3)
        start = run.starts(k)
        if run.bands and start is not None:
            at, low, high = zip(*(point for point in run.bands[k] if point[0] >= start))
            axes.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
    seen, accuracy = run.seen(), run.score.higher_is_better
    dashed: dict[str, Any] = {"linewidth": 1.1, "linestyle": (0, (4, 2))}
    axes.plot(*_xy(seen), color=INK, zorder=4, **dashed)
    if seen:
        last = seen[-1][1]
        value = f"{100 * last:.0f} %" if accuracy else f"{last:.2g}"
        text: dict[str, Any] = {"va": "center", "fontsize": 8, "linespacing": 0.95}
        axes.text(end * 1.012, last, f"mean of\nseen: {value}", color=INK, **text)
    _training_strip(axes, run, end)
    axes.set_xlim(0, end)
    title = run.label if run.n_seeds == 1 else f"{run.label}, {run.n_seeds} seeds"
    axes.set_title(title, color=INK, fontsize=11, fontweight="bold", pad=20)
    despine(axes)


def _training_strip(axes: Axes, run: Curves, end: int) -> None:
    """Which experience is in training when, above the panel."""
    above: dict[str, Any] = {"transform": axes.get_xaxis_transform()}
    text = {**CENTRED, "fontsize": 8, "color": "white", "fontweight": "bold"}
    ends = [*run.boundaries, end]
    starts = [run.starts(k) for k in range(run.n_experiences)]
    spans: list[tuple[float, float]] = [
        (start, ends[k]) for k, start in enumerate(starts) if start is not None
    ]
    if run.trains_jointly:
        n = run.n_experiences
        spans = [(end * k / n, end * (k + 1) / n) for k in range(n)]
        note: dict[str, Any] = {"ha": "right", "fontsize": 8}
        axes.text(1, 1.1, "all at once", transform=axes.transAxes, **note)
    for k, (left, right) in enumerate(spans):
        if right > left:
            face: dict[str, Any] = {"color": experience_colour(k), "linewidth": 0}
            face |= {**above, "clip_on": False}
            axes.fill_between([left, right], 1.025, 1.085, **face)
            axes.text((left + right) / 2, 1.054, str(k + 1), **above, **text)


def score_matrix(
    matrix: Tensor,
    label: str = "",
    spread: Tensor | None = None,
    score: Score = ACCURACY,
) -> Figure:
    """The matrix of accuracies (in percent) or RMSEs as a heat map with its numbers.

    Rows: after how many experiences, row 0 before training; columns: the experience
    tested. A frame marks each experience just after its training; blank: not measured.

    Args:
        spread: standard deviations over seeds, of the matrix' shape, written below the
            means.
    """
    n_rows, n = matrix.shape
    title = "accuracy, %" if score.higher_is_better else score.title
    title += "" if spread is None else " ± sd"
    top = 1.0 if score.higher_is_better else float(matrix.nan_to_num(0).max()) or 1.0
    side = 0.46 if n <= 12 else 0.46 * 12 / n
    figure = new_figure(1.5 + max(side * n, 1.8), 1.35 + max(side * n_rows, 1.6))
    axes = figure.subplots()
    edges = np.arange(n_rows + 1) - 0.5  # cells are centred on whole numbers
    scale: dict[str, Any] = {"cmap": "Blues", "vmin": 0, "vmax": top}
    cells = axes.pcolormesh(edges[: n + 1], edges, matrix.numpy(), **scale)
    cells.set(edgecolor="face", linewidth=0.4)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    for i, j in np.argwhere(~matrix.isnan().numpy()).tolist():
        value = matrix[i, j].item()
        style = {**CENTRED, "color": "white" if value > 0.6 * top else CELL_INK}
        weight = "bold" if i == j + 1 else "normal"
        lift = 0 if spread is None else 0.14
        number = _in_cell(value, score)
        axes.text(j, i - lift, number, fontsize=8, fontweight=weight, **style)
        if spread is not None:
            number = f"± {_in_cell(spread[i, j].item(), score)}"
            axes.text(j, i + 0.24, number, fontsize=5.5, **style)
    for k in range(n):
        frame = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]) + (k - 0.5, k + 0.5)
        colour = experience_colour(k)
        axes.plot(*frame.T, color=colour, linewidth=1.6, clip_on=False)
    axes.set_xticks(range(n), [str(k + 1) for k in range(n)])
    axes.set_yticks(range(n_rows), ["before", *(str(k + 1) for k in range(n))])
    y = "trained on experiences up to"
    label_axes(axes, "tested on experience", y, size=9)
    heading = f"{label}: {title}" if label else title
    axes.set_title(heading, fontsize=10, color=INK)
    despine(axes, frame=False)
    return figure


def _in_cell(value: float, score: Score) -> str:
    """As few letters as tell the value."""
    if score.higher_is_better:
        return f"{100 * value:.0f}"
    if value >= 0.0995 or value == 0:
        return f"{value:.2g}"
    return f"{value:.0e}".replace("e-0", "e-")


def edge_functions(network: Any, n_rows: int = 3, n_columns: int = 6) -> Figure:
    """The learned functions on the strongest edges of the first spline layer.

    The edges are those with the largest norm of spline coefficients, at most one per
    output, so that one strong output does not fill the page. Each tile spans its edge's
    grid from left to right; the scale, written below, is one for all tiles. (Tiles of
    one panel: drawing 18 panels took 2 seconds, and that after each experience.)
    """
    layer = network.layers[0]
    x, y = (values.detach().cpu() for values in layer.edge_functions(101))
    norms = layer.scaled_coefficients.detach().cpu().norm(dim=1).T  # (out, in)
    strongest = norms.max(dim=1)
    n_shown = min(n_rows * n_columns, len(norms))
    outputs = strongest.values.topk(n_shown).indices.tolist()
    edges = [(o, int(strongest.indices[o])) for o in outputs]
    top = max(float(y[o, i].abs().max()) for o, i in edges) or 1.0
    figure = Figure(figsize=(1.25 * n_columns, 1.05 * n_rows + 0.6), dpi=150)
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    axes.set_axis_off()
    small: dict[str, Any] = {"fontsize": 7}
    for k, (o, i) in enumerate(edges):
        left, middle = 1.15 * (k % n_columns), -2.9 * (k // n_columns)
        axes.plot([left, left + 1], [middle] * 2, color=FAINT, linewidth=0.6)
        across = left + (x[i] - x[i, 0]) / (x[i, -1] - x[i, 0])
        upward = middle + y[o, i] / top
        axes.plot(across, upward, color=experience_colour(0), linewidth=1.6)
        name = f"input {i} → unit {o}"
        axes.text(left + 0.5, middle + 1.2, name, ha="center", color=INK, **small)
    low, high = x.min().item(), x.max().item()
    note = f"tile: {low:.2g} to {high:.2g} across, ±{top:.2g} up and down"
    right, bottom = 1.15 * n_columns - 0.15, -2.9 * (n_rows - 1) - 1.7
    axes.text(right, bottom, note, ha="right", color=FAINT, **small)
    title = "strongest edges of the first layer"
    axes.text(right / 2, 2.1, title, ha="center", fontsize=10, color=INK)
    axes.set_xlim(-0.15, right + 0.15)
    axes.set_ylim(bottom - 0.3, 2.6)
    return figure


def _xy(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
