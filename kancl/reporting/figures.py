"""Figures: forgetting curves, accuracy matrix, learned edge functions.

Made with matplotlib's objects alone: no pyplot state, no global settings, no window.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from kancl.reporting.colours import CELL_INK, FAINT, INK, experience_colour
from kancl.reporting.curves import Curves


def forgetting_curves(runs: Sequence[Curves], title: str = "") -> Figure:
    """Accuracy on every experience against training iterations, a panel per run.

    The coloured strip on top says which experience is in training, and is the legend.
    What lies before an experience's own training is drawn faint; the dashed line is
    the mean over the experiences seen so far. Means of several seeds have the band of
    their 95 % interval.
    """
    if not runs:
        raise ValueError("no runs to draw")
    figure = Figure(figsize=(0.8 + 4.6 * len(runs), 3.5), layout="constrained", dpi=150)
    panels = figure.subplots(1, len(runs), sharey=True, squeeze=False)[0]
    for axes, run in zip(panels, runs):
        _forgetting_panel(axes, run)
    score = "RMSE" if runs[0].regression else "accuracy"
    panels[0].set_ylabel(f"{score} on each experience", color=INK, fontsize=10)
    if title:
        figure.suptitle(title, color=INK, fontsize=11)
    return figure


def _forgetting_panel(axes: Axes, run: Curves) -> None:
    end = max(run.last_iteration, 1)
    for border in run.borders[:-1]:
        axes.axvline(border, color=FAINT, linewidth=0.8, zorder=0)
    for k in range(run.n_experiences):
        colour = experience_colour(k)
        before, since = run.split(k)
        axes.plot(*_xy(before), color=colour, linewidth=1, alpha=0.3, zorder=1)
        axes.plot(*_xy(since), color=colour, linewidth=1.8, zorder=3)
        start = run.starts(k)
        if run.bands and start is not None:
            band = [point for point in run.bands[k] if point[0] >= start]
            at, low, high = zip(*band)
            axes.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(
        *_xy(run.seen()), color=INK, linewidth=1.1, linestyle=(0, (4, 2)), zorder=4
    )
    seen = run.seen()
    if seen:
        last = seen[-1][1]
        value = f"{last:.2g}" if run.regression else f"{100 * last:.0f} %"
        note = f"mean of\nseen: {value}"
        at = (end * 1.012, seen[-1][1])
        axes.text(*at, note, va="center", fontsize=8, color=INK, linespacing=0.95)
    _training_strip(axes, run, end)
    axes.set_xlim(0, end)
    if run.regression:
        axes.set_ylim(bottom=0)
    else:
        axes.set_ylim(-0.02, 1.02)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes.set_xlabel("training iterations", color=INK, fontsize=10)
    title = run.label if run.n_seeds == 1 else f"{run.label}, {run.n_seeds} seeds"
    axes.set_title(title, color=INK, fontsize=11, fontweight="bold", pad=20)
    quiet(axes)


def _training_strip(axes: Axes, run: Curves, end: int) -> None:
    """Which experience is in training when, above the panel."""
    transform = axes.get_xaxis_transform()
    text: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8}
    text |= {"color": "white", "fontweight": "bold"}
    for k in range(run.n_experiences):
        start = run.starts(k)
        if start is None:
            continue
        if run.trains_jointly:
            n = run.n_experiences
            left, right = end * k / n, end * (k + 1) / n
        else:
            left = start
            right = run.borders[k] if k < len(run.borders) else end
        if right <= left:
            continue
        axes.fill_between(
            [left, right],
            1.025,
            1.085,
            transform=transform,
            color=experience_colour(k),
            linewidth=0,
            clip_on=False,
        )
        middle = ((left + right) / 2, 1.054)
        axes.text(*middle, str(k + 1), transform=transform, **text)
    if run.trains_jointly:
        axes.text(
            1, 1.1, "all at once", transform=axes.transAxes, ha="right", fontsize=8
        )


def accuracy_matrix(
    matrix: Tensor, label: str = "", spread: Tensor | None = None
) -> Figure:
    """The accuracy matrix as a heat map with numbers in percent.

    Rows: after how many experiences, row 0 before training; columns: the experience
    tested. A frame marks each experience just after its training; blank: not measured.

    Args:
        spread: standard deviations over seeds, of the matrix' shape, written below the
            means.
    """
    title = "accuracy, %" if spread is None else "accuracy, % ± sd"
    title = f"{label}: {title}" if label else title
    return _scores(matrix, title, lambda value: f"{100 * value:.0f}", 1.0, spread)


def rmse_matrix(matrix: Tensor, label: str = "") -> Figure:
    """The same of root mean square errors, on a scale up to the largest."""
    top = float(matrix.nan_to_num(0).max()) or 1.0
    return _scores(matrix, f"{label}: RMSE" if label else "RMSE", _brief, top)


def _brief(value: float) -> str:
    if value >= 0.0995 or value == 0:
        return f"{value:.2g}"
    return f"{value:.0e}".replace("e-0", "e-")


def _scores(
    matrix: Tensor,
    title: str,
    number_of: Callable[[float], str],
    top: float,
    spread: Tensor | None = None,
) -> Figure:
    n_rows, n = matrix.shape
    side = 0.46 if n <= 12 else 0.46 * 12 / n
    size = (1.5 + max(side * n, 1.8), 1.35 + max(side * n_rows, 1.6))
    figure = Figure(figsize=size, layout="constrained", dpi=150)
    axes = figure.subplots()
    edges = np.arange(n_rows + 1) - 0.5  # cells are centred on whole numbers
    cells = axes.pcolormesh(
        edges[:-1], edges, matrix.numpy(), cmap="Blues", vmin=0, vmax=top
    )
    cells.set(edgecolor="face", linewidth=0.4)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    for i in range(n_rows):
        for j in range(n):
            value = matrix[i, j].item()
            if value != value:
                continue
            style: dict[str, Any] = {
                "color": "white" if value > 0.6 * top else CELL_INK
            }
            style |= {"ha": "center", "va": "center"}
            weight = "bold" if i == j + 1 else "normal"
            lift = 0 if spread is None else 0.14
            number = number_of(value)
            axes.text(j, i - lift, number, fontsize=8, fontweight=weight, **style)
            if spread is not None:
                number = f"± {100 * spread[i, j].item():.0f}"
                axes.text(j, i + 0.24, number, fontsize=5.5, **style)
    for k in range(n):
        frame = [(k - 0.5, k + 0.5), (k + 0.5, k + 0.5), (k + 0.5, k + 1.5)]
        frame += [(k - 0.5, k + 1.5), (k - 0.5, k + 0.5)]
        axes.plot(*_xy(frame), color=experience_colour(k), linewidth=1.6, clip_on=False)
    axes.set_xticks(range(n), [str(k + 1) for k in range(n)])
    axes.set_yticks(range(n_rows), ["before", *(str(k + 1) for k in range(n))])
    axes.set_xlabel("tested on experience", fontsize=9, color=INK)
    axes.set_ylabel("trained on experiences up to", fontsize=9, color=INK)
    axes.set_title(title, fontsize=10, color=INK)
    quiet(axes, frame=False)
    return figure


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
    for k, (o, i) in enumerate(edges):
        left, middle = 1.15 * (k % n_columns), -2.9 * (k // n_columns)
        span = x[i, -1] - x[i, 0]
        axes.plot([left, left + 1], [middle] * 2, color=FAINT, linewidth=0.6)
        across = left + (x[i] - x[i, 0]) / span
        upward = middle + y[o, i] / top
        axes.plot(across, upward, color=experience_colour(0), linewidth=1.6)
        name = f"input {i} → unit {o}"
        axes.text(left + 0.5, middle + 1.2, name, ha="center", fontsize=7, color=INK)
    low, high = x.min().item(), x.max().item()
    note = f"tile: {low:.2g} to {high:.2g} across, ±{top:.2g} up and down"
    right, bottom = 1.15 * n_columns - 0.15, -2.9 * (n_rows - 1) - 1.7
    axes.text(right, bottom, note, ha="right", fontsize=7, color=FAINT)
    title = "strongest edges of the first layer"
    axes.text(right / 2, 2.1, title, ha="center", fontsize=10, color=INK)
    axes.set_xlim(-0.15, right + 0.15)
    axes.set_ylim(bottom - 0.3, 2.6)
    return figure


def as_pixels(figure: Figure) -> np.ndarray:
    """The figure drawn for the screen, ``(height, width, 3)`` uint8."""
    figure.set_dpi(120)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _xy(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def quiet(axes: Axes, frame: bool = True) -> None:
    """Take away the ink that says nothing."""
    for side in ["top", "right"] if frame else ["top", "right", "left", "bottom"]:
        axes.spines[side].set_visible(False)
    for side in ["left", "bottom"]:
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=8, length=3 if frame else 0, color=FAINT)
