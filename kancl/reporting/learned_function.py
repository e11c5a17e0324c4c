"""Figures of a regression: what was learned after each phase, and when it was kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from kancl.reporting.colours import FAINT, INK, experience_colour
from kancl.reporting.figures import label_axes, new_figure

KEPT = 1e-3
"""An error that grew by less counts as kept."""
LOWEST = 1e-10
"""Smaller increases are drawn here."""


@dataclass(frozen=True)
class LearnedFunction:
    """What ``label`` learned, of one or two inputs.

    Args:
        points: ``(n, dimensions)``, the last input running fastest.
        target: what was to be learned, ``(n,)``.
        functions: after each experience, ``(n,)``.
    """

    label: str
    points: Tensor
    target: Tensor
    functions: Sequence[Tensor]
    note: str = ""


def learned_functions(rows: Sequence[LearnedFunction], title: str = "") -> Figure:
    """What each has learned after every phase: a row per network, a column per phase.

    One input: the target is grey, the function has the colour of the phase just
    trained. Two inputs: pictures, the target first.

    Raises: ValueError without rows.
    """
    if not rows:
        raise ValueError("no function to draw")
    flat = rows[0].points.shape[1] == 1
    n_phases = max(len(row.functions) for row in rows)
    names = [f"after phase {k + 1}" for k in range(n_phases)]
    names = names if flat else ["target", *names]
    n, n_rows = len(names), len(rows)
    figure, panels = new_figure(
        1.3 + 1.9 * n, 0.7 + 1.6 * n_rows, n, n_rows, sharey=True
    )
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


def _curve(axes: Axes, row: LearnedFunction, values: Tensor, phase: int) -> None:
    x = row.points[:, 0].numpy()
    axes.fill_between(x, row.target.numpy(), color=FAINT, alpha=0.35, linewidth=0)
    axes.plot(x, values.numpy(), color=experience_colour(phase), linewidth=1.4)
    # What shoots out far between peaks must not hide the peaks themselves.
    axes.set(ylim=(-0.8, 1.6), xticks=[-1, 0, 1], yticks=[0, 1])


def _picture(axes: Axes, row: LearnedFunction, values: Tensor, phase: int) -> None:
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
    title: str = "five peaks in one dimension: what a finer grid keeps",
) -> Figure:
    """How far errors on old peaks grew, against the grid size, a line per network.

    Args:
        lines: by name, ``(grid size, increase)``.
        levels: by name, increases of networks without a grid.
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
