"""Figures, of matplotlib's objects alone: no pyplot state, no global settings, no window."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from kancl.metrics.score_matrix import ACCURACY, Score
from kancl.reporting.colours import CELL_INK, FAINT, INK, experience_colour
from kancl.reporting.curves import Curves
from kancl.runs.names import LEARNED_FUNCTION
from kancl.runs.reader import read_table

CENTRED: Any = {"ha": "center", "va": "center"}
MOST_WRITTEN = 20
"""Classes of a confusion matrix whose numbers can still be read."""
DASHED: Any = {"linewidth": 1.1, "linestyle": (0, (4, 2))}


class NotebookFigure(Figure):
    """A figure that a notebook shows, whether pyplot is imported there or not."""

    def _repr_png_(self) -> bytes:
        self.savefig(file := io.BytesIO(), format="png", dpi=100)
        return file.getvalue()


def as_png(figure: Figure) -> bytes:
    figure.savefig(file := io.BytesIO(), format="png")
    return file.getvalue()


def new_figure(
    width: float,
    height: float,
    n_columns: int = 1,
    n_rows: int = 1,
    frame: bool = True,
    **options: Any,
) -> tuple[Figure, Any]:
    """A figure in inches and its panels ``(n_rows, n_columns)``, with little ink."""
    figure = NotebookFigure(figsize=(width, height), layout="constrained", dpi=150)
    panels = figure.subplots(n_rows, n_columns, squeeze=False, **options)
    for axes in panels.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_visible(frame)
        axes.spines[["left", "bottom"]].set_color(FAINT)
        length = 3 if frame else 0
        axes.tick_params(colors=INK, labelsize=8, length=length, color=FAINT)
    return figure, panels


def label_axes(
    axes: Axes, x: str = "", y: str = "", title: str = "", size: int = 10
) -> None:
    axes.set_xlabel(x, fontsize=size, color=INK)
    axes.set_ylabel(y, fontsize=size, color=INK)
    axes.set_title(title, fontsize=size, color=INK)


def as_pixels(figure: Figure) -> np.ndarray:
    """The figure drawn for the screen, ``(height, width, 3)`` uint8."""
    figure.set_dpi(120)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def forgetting_curves(
    runs: Sequence[Curves], title: str = "", n_columns: int | None = None
) -> Figure:
    """The score on every experience against training iterations, a panel per run.

    The strip on top says which experience is in training, and is the legend. Faint:
    before an experience's own training; dashed: the mean over the experiences seen so
    far. Means of several seeds have the band of their 95 % interval.

    Args:
        n_columns: panels side by side; None: all.
    Raises: ValueError without runs.
    """
    if not runs:
        raise ValueError("no runs to draw")
    score, n = runs[0].score, n_columns or len(runs)
    n_rows = -(-len(runs) // n)
    size = 0.8 + 4.6 * n, 0.1 + 3.4 * n_rows, n, n_rows
    figure, panels = new_figure(*size, sharey=True)
    for axes in panels.flat[len(runs) :]:
        axes.set_visible(False)
    for axes, run in zip(panels.flat, runs):
        label_axes(axes, "training iterations")
        _forgetting_panel(axes, run)
    first = panels[0, 0]
    if score.higher_is_better:
        ticks = [0, 0.25, 0.5, 0.75, 1]
        first.set_yticks(ticks, ["0", "25 %", "50 %", "75 %", "100 %"])
        first.set_ylim(-0.02, 1.02)
    else:
        first.set_ylim(bottom=0)
    for axes in panels[:, 0]:
        axes.set_ylabel(f"{score.title} on each experience", color=INK, fontsize=10)
    if title:
        figure.suptitle(title, color=INK, fontsize=11)
    return figure


def _forgetting_panel(axes: Any, run: Curves) -> None:
    end = max(run.last_iteration, 1)
    for boundary in run.boundaries[:-1]:
        axes.axvline(boundary, color=FAINT, linewidth=0.8, zorder=0)
    for k in range(run.n_experiences):
        colour, start = experience_colour(k), run.starts(k)
        before, since = run.split(k)
        axes.plot(*_xy(before), color=colour, linewidth=1, alpha=0.3, zorder=1)
        axes.plot(*_xy(since), color=colour, linewidth=1.8, zorder=3)
        if run.bands and start is not None:
            at, low, high = zip(*(point for point in run.bands[k] if point[0] >= start))
            axes.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
    seen = run.seen()
    axes.plot(*_xy(seen), color=INK, zorder=4, **DASHED)
    if seen:
        last = seen[-1][1]
        value = f"{100 * last:.0f} %" if run.score.higher_is_better else f"{last:.2g}"
        text: Any = {"va": "center", "fontsize": 8, "linespacing": 0.95, "color": INK}
        axes.text(end * 1.012, last, f"mean of\nseen: {value}", **text)
    _training_strip(axes, run, end)
    axes.set_xlim(0, end)
    title = f"{run.label}, {in_seeds(run.n_seeds)}"
    axes.set_title(title, color=INK, fontsize=11, fontweight="bold", pad=20)


def _training_strip(axes: Any, run: Curves, end: int) -> None:
    n, above = run.n_experiences, {"transform": axes.get_xaxis_transform()}
    ends: list[float] = [0, *run.boundaries, end]
    if run.trains_jointly:
        ends = [end * k / n for k in range(n + 1)]
        place: Any = {"transform": axes.transAxes, "ha": "right"}
        axes.text(1, 1.1, "all at once", fontsize=8, **place)
    for k, (left, right) in enumerate(zip(ends[:n], ends[1:])):
        if right > left:
            face: Any = {"color": experience_colour(k), "linewidth": 0, **above}
            axes.fill_between([left, right], 1.025, 1.085, clip_on=False, **face)
            text: Any = {"fontsize": 8, "color": "white", "fontweight": "bold", **above}
            axes.text((left + right) / 2, 1.054, str(k + 1), **CENTRED, **text)


def in_seeds(n: int) -> str:
    """What a figure is of: ``1 seed``, ``mean of 5 seeds``."""
    return "1 seed" if n == 1 else f"mean of {n} seeds"


def of_one_run(figure: Figure, label: str) -> Figure:
    """The figure, titled ``kan-naive, 1 seed``."""
    figure.suptitle(f"{label}, {in_seeds(1)}", color=INK, fontsize=11)
    return figure


def score_matrix(
    matrix: Tensor,
    label: str = "",
    spread: Tensor | None = None,
    score: Score = ACCURACY,
    n_seeds: int = 1,
) -> Figure:
    """The matrix of accuracies (in percent) or RMSEs as a heat map with its numbers, and
    their standard deviations over seeds below them.

    A frame marks each experience just after its training; blank: not measured.
    """
    n_rows, n = matrix.shape
    title = "accuracy, %" if score.higher_is_better else score.title
    title += "" if spread is None else " ± sd"
    top = 1.0 if score.higher_is_better else float(matrix.nan_to_num(0).max()) or 1.0
    figure, axes = _heat_map(matrix, top)
    for i, j in np.argwhere(~matrix.isnan().numpy()).tolist():
        value = matrix[i, j].item()
        style = {**CENTRED, "color": "white" if value > 0.6 * top else CELL_INK}
        weight = "bold" if i == j + 1 else "normal"
        y, number = i if spread is None else i - 0.14, _in_cell(value, score)
        axes.text(j, y, number, fontsize=8, fontweight=weight, **style)
        if spread is not None:
            number = f"± {_in_cell(spread[i, j].item(), score)}"
            axes.text(j, i + 0.24, number, fontsize=5.5, **style)
    for k in range(n):
        frame = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]) + (k - 0.5, k + 0.5)
        axes.plot(*frame.T, color=experience_colour(k), linewidth=1.6, clip_on=False)
    axes.set_xticks(range(n), [str(k + 1) for k in range(n)])
    axes.set_yticks(range(n_rows), ["before", *(str(k + 1) for k in range(n))])
    of_what = f"{label}, {in_seeds(n_seeds)}\n{title}" if label else title
    words = "tested on experience", "trained on experiences up to", of_what
    label_axes(axes, *words, size=9)
    return figure


def confusion_matrix(counts: Tensor, label: str = "") -> Figure:
    """How many of each class's samples (row) were taken for each class (column), in
    percent of the row; ``counts`` ``(classes, classes)``, a row without samples is blank.
    """
    shares = counts / counts.sum(1, keepdim=True)
    n = len(shares)
    figure, axes = _heat_map(shares, 1.0)
    for i, j in np.argwhere((counts > 0).numpy()).tolist() if n <= MOST_WRITTEN else ():
        value = shares[i, j].item()
        style = {**CENTRED, "color": "white" if value > 0.6 else CELL_INK}
        axes.text(j, i, f"{100 * value:.0f}", fontsize=8, **style)
    ticks = range(0, n, 1 if n <= MOST_WRITTEN else 10)
    axes.set(xticks=ticks, yticks=ticks)
    of_what = f"{label}, {in_seeds(1)}\n" if label else ""
    title = f"{of_what}classes confused, % of the class"
    label_axes(axes, "class predicted", "class of the sample", title, size=9)
    return figure


def _heat_map(values: Tensor, top: float) -> tuple[Figure, Axes]:
    """Cells centred on whole numbers, from 0 (white) to ``top`` (blue); NaN: blank."""
    n_rows, n = values.shape
    side = 0.46 if n <= 12 else 0.46 * 12 / n
    width, height = 1.5 + max(side * n, 1.8), 1.5 + max(side * n_rows, 1.6)
    figure, ((axes,),) = new_figure(width, height, frame=False)
    columns, rows = (np.arange(k + 1) - 0.5 for k in (n, n_rows))
    scale: Any = {"cmap": "Blues", "vmin": 0, "vmax": top}
    cells = axes.pcolormesh(columns, rows, values.numpy(), **scale)
    cells.set(edgecolor="face", linewidth=0.4)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    return figure, axes


def _in_cell(value: float, score: Score) -> str:
    if score.higher_is_better:
        return f"{100 * value:.0f}"
    # as few letters as tell the value
    return f"{value:.0e}".replace("e-0", "e-") if 0 < value < 0.0995 else f"{value:.2g}"


def _xy(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


KEPT = 1e-3
"""An error that grew by less counts as kept."""
LOWEST = 1e-10
"""Smaller increases are drawn here."""


@dataclass(frozen=True)
class LearnedFunction:
    """What ``label`` learned, of one or two inputs."""

    label: str
    points: Tensor  # (n, dimensions), the last input running fastest
    target: Tensor  # (n,)
    functions: Sequence[Tensor]  # after each experience, (n,)
    note: str = ""

    @classmethod
    def read(cls, folder: Path, label: str, note: str = "") -> LearnedFunction:
        """What a run folder keeps of the function learned."""
        header, rows = read_table(folder / LEARNED_FUNCTION)
        n_inputs, columns = header.index("target"), rows.T
        points, target, *functions = columns[:n_inputs].T, *columns[n_inputs:]
        return cls(label, points, target, functions, note)


def learned_functions(rows: Sequence[LearnedFunction], title: str = "") -> Figure:
    """What each has learned: a row per network, a column per phase. One input: the target
    is grey. Two inputs: pictures, the target first.

    Raises: ValueError without rows.
    """
    if not rows:
        raise ValueError("no function to draw")
    flat = rows[0].points.shape[1] == 1
    n_phases = max(len(row.functions) for row in rows)
    names = [] if flat else ["target"]
    names += [f"after phase {k + 1}" for k in range(n_phases)]
    n, n_rows = len(names), len(rows)
    size = 1.3 + 1.9 * n, 0.7 + 1.6 * n_rows, n, n_rows
    figure, panels = new_figure(*size, sharey=True)
    draw = _curve if flat else _picture
    for row, line in zip(rows, panels):
        shown = row.functions if flat else [row.target, *row.functions]
        for k, (axes, values) in enumerate(zip(line, shown)):
            draw(axes, row, values, k)
        line[0].set_ylabel(f"{row.label}\n{row.note}".strip(), fontsize=9, color=INK)
    for axes, name in zip(panels[0], names):
        axes.set_title(name, fontsize=9, color=INK)
    if title:
        figure.suptitle(title, fontsize=11, color=INK)
    return figure


def _curve(axes: Any, row: LearnedFunction, values: Tensor, phase: int) -> None:
    x = row.points[:, 0].numpy()
    axes.fill_between(x, row.target.numpy(), color=FAINT, alpha=0.35, linewidth=0)
    axes.plot(x, values.numpy(), color=experience_colour(phase), linewidth=1.4)
    # What shoots out far between peaks must not hide the peaks themselves.
    axes.set(ylim=(-0.8, 1.6), xticks=[-1, 0, 1], yticks=[0, 1])


def _picture(axes: Any, row: LearnedFunction, values: Tensor, phase: int) -> None:
    side = round(len(values) ** 0.5)
    low, high = float(row.points.min()), float(row.points.max())
    # rows of an image run along the second input, hence the transpose
    pixels, extent = values.view(side, side).T.numpy(), (low, high, low, high)
    axes.imshow(pixels, vmin=-1, vmax=1, cmap="RdBu", origin="lower", extent=extent)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, edgecolor="black")


def phase_diagram(
    lines: Mapping[str, Sequence[tuple[int, float]]],
    levels: Mapping[str, float],
    title: str = "",
) -> Figure:
    """How far errors on old peaks grew, against the grid size, a line per network;
    ``levels``: increases of networks without a grid.
    """
    figure, ((axes,),) = new_figure(6.4, 4.0)
    sizes = sorted({size for points in lines.values() for size, _ in points})
    text: Any = {"fontsize": 8}
    for k, (name, points) in enumerate(lines.items()):
        x, y = zip(*sorted(points))
        shown, colour = np.maximum(y, LOWEST), experience_colour(k)
        axes.plot(x, shown, marker="o", markersize=4, color=colour)
        place: Any = {"textcoords": "offset points", "va": "center", "color": colour}
        place["xytext"] = (6, 0 if set(x) >= set(sizes) else 7)
        axes.annotate(name, (x[-1], shown[-1]), **place, **text)
    for name, level in levels.items():
        axes.axhline(level, color=FAINT, linewidth=1, linestyle=(0, (4, 2)))
        axes.text(sizes[0], level * 1.25, name, color=INK, va="bottom", **text)
    axes.axhspan(LOWEST / 3, KEPT, color=experience_colour(2), alpha=0.08, linewidth=0)
    axes.text(sizes[0], KEPT / 1.4, "kept", color=INK, va="top", **text)
    axes.set(xscale="log", yscale="log", xlim=(sizes[0] * 0.9, sizes[-1] * 2.4))
    axes.set_ylim(LOWEST / 3, None)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    label_axes(axes, "grid size G", "largest increase of RMSE on an old peak", title)
    return figure
