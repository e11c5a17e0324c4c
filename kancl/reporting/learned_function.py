"""Figures of a regression: what was learned after each phase, and when it was kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from kancl.reporting.colours import FAINT, INK, experience_colour
from kancl.reporting.figures import despine

KEPT = 1e-3
"""An error that grew by less counts as kept."""


@dataclass(frozen=True)
class LearnedFunction:
    """A function of one or two inputs after each experience.

    Args:
        label: who learned it.
        points: ``(n, dimensions)``, the last input running fastest.
        target: what was to be learned, ``(n,)``.
        functions: after each experience, ``(n,)``.
        note: below the label.
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
    n_columns = max(len(row.functions) for row in rows) + (not flat)
    size = (1.3 + 1.9 * n_columns, 0.7 + 1.6 * len(rows))
    figure = Figure(figsize=size, layout="constrained", dpi=150)
    panels = figure.subplots(len(rows), n_columns, squeeze=False, sharey=True)
    for row, line in zip(rows, panels):
        if flat:
            for k, (axes, values) in enumerate(zip(line, row.functions)):
                _curve(axes, row, values, k)
        else:
            for k, (axes, values) in enumerate(zip(line, [row.target, *row.functions])):
                _picture(axes, row, values)
        label = f"{row.label}\n{row.note}" if row.note else row.label
        line[0].set_ylabel(label, fontsize=9, color=INK)
    names = [f"after phase {k + 1}" for k in range(n_columns - (not flat))]
    for axes, name in zip(panels[0], names if flat else ["target", *names]):
        axes.set_title(name, fontsize=9, color=INK)
    if title:
        figure.suptitle(title, fontsize=11, color=INK)
    return figure


def _curve(axes: Axes, row: LearnedFunction, values: Tensor, phase: int) -> None:
    x = row.points[:, 0].numpy()
    axes.fill_between(x, row.target.numpy(), color=FAINT, alpha=0.35, linewidth=0)
    axes.plot(x, values.numpy(), color=experience_colour(phase), linewidth=1.4)
    # What shoots out far between peaks must not hide the peaks themselves.
    axes.set_ylim(-0.8, 1.6)
    axes.set_xticks([-1, 0, 1])
    axes.set_yticks([0, 1])
    despine(axes)


def _picture(axes: Axes, row: LearnedFunction, values: Tensor) -> None:
    side = round(len(values) ** 0.5)
    low, high = float(row.points.min()), float(row.points.max())
    style: dict[str, Any] = {"origin": "lower", "extent": (low, high, low, high)}
    # rows of an image run along the second input, hence the transpose
    axes.imshow(
        values.view(side, side).T.numpy(), vmin=-1, vmax=1, cmap="RdBu", **style
    )
    axes.set_xticks([])
    axes.set_yticks([])


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
    figure = Figure(figsize=(6.4, 4.0), layout="constrained", dpi=150)
    axes = figure.subplots()
    lowest = 1e-10
    sizes = [size for points in lines.values() for size, _ in points]
    for k, (name, points) in enumerate(lines.items()):
        x, y = zip(*sorted(points))
        shown = np.maximum(y, lowest)
        axes.plot(x, shown, marker="o", markersize=4, color=experience_colour(k))
        axes.annotate(
            name,
            (x[-1], shown[-1]),
            xytext=(6, 7) if len(set(sizes) - set(x)) else (6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=experience_colour(k),
        )
    for name, level in levels.items():
        axes.axhline(level, color=FAINT, linewidth=1, linestyle=(0, (4, 2)))
        axes.text(
            min(sizes),
            level * 1.25,
            name,
            fontsize=8,
            color=INK,
            ha="left",
            va="bottom",
        )
    axes.axhspan(lowest / 3, KEPT, color=experience_colour(2), alpha=0.08, linewidth=0)
    axes.text(min(sizes), KEPT / 1.4, "kept", fontsize=8, color=INK, va="top")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(lowest / 3, None)
    axes.set_xlim(min(sizes) * 0.9, max(sizes) * 2.4)
    ticks = sorted(set(sizes))
    axes.set_xticks(ticks, [str(size) for size in ticks])
    axes.minorticks_off()
    axes.set_xlabel("grid size G", fontsize=10, color=INK)
    axes.set_ylabel("largest increase of RMSE on an old peak", fontsize=10, color=INK)
    axes.set_title(title, fontsize=10, color=INK)
    despine(axes)
    return figure
