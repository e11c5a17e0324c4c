"""Figures of locality: what experiences use and share, what moved, who forgot."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from kancl.metrics.locality import Occupancy, overlap_matrix
from kancl.reporting.colours import CELL_INK, INK, experience_colour
from kancl.reporting.figures import despine

MOST_ROWS, MOST_COLUMNS = 10, 8


def occupancy_maps(means: Sequence[Tensor], image_shape: tuple[int, ...]) -> Figure:
    """How much each experience uses each basis of each pixel: pictures in rows.

    A row per experience, a column per basis from the low end of the grid to the high
    one (at most so many of each, evenly chosen); one scale for all. (Pictures of one
    panel: drawing 40 panels took 3 seconds.)

    Args:
        means: of the first layer, ``(in_features, n_basis)`` for each experience.
    """
    rows = _some(len(means), MOST_ROWS)
    columns = _some(means[0].shape[1], MOST_COLUMNS)
    height, width = image_shape[-2:]
    gap = 2
    page = np.full((len(rows) * (height + gap), len(columns) * (width + gap)), np.nan)
    for i, k in enumerate(rows):
        for j, g in enumerate(columns):
            top, left = i * (height + gap), j * (width + gap)
            picture = means[k][:, g].view(height, width).numpy()
            page[top : top + height, left : left + width] = picture
    size = (1.9 + 0.95 * len(columns), 0.5 + 0.95 * len(rows))
    figure = Figure(figsize=size, dpi=150)
    across, up = 0.95 * len(columns) / size[0], 0.95 * len(rows) / size[1]
    axes = figure.add_axes((0.9 / size[0], 0.05 / size[1], across, up))
    shown = axes.imshow(page, cmap="magma", vmin=0, aspect="auto")
    middles = [(width + gap) * j + width / 2 for j in range(len(columns))]
    axes.set_xticks(middles, [f"basis {g + 1}" for g in columns], fontsize=7)
    axes.xaxis.tick_top()
    middles = [(height + gap) * i + height / 2 for i in range(len(rows))]
    axes.set_yticks(middles, [f"experience {k + 1}" for k in rows], fontsize=7)
    despine(axes, frame=False)
    beside = figure.add_axes((1 - 0.62 / size[0], 0.15, 0.12 / size[0], 0.6))
    bar = figure.colorbar(shown, cax=beside)
    bar.ax.tick_params(labelsize=7, colors=INK)
    bar.ax.set_title("mean\nactivation", fontsize=7, color=INK)
    return figure


def overlap_matrices(
    occupancies: Mapping[str, Sequence[Occupancy]],
    views: Sequence[str] = ("exposure", "bhattacharyya", "kernel_ratio"),
) -> Figure:
    """What experiences share, layer by layer and view by view, in percent.

    Row: old experience, column: new one; each measured just after its own training.
    """
    n = len(next(iter(occupancies.values())))
    pitch = n + 1
    page = np.full((pitch * len(occupancies), pitch * len(views)), np.nan)
    size = (1.1 + 0.3 * page.shape[1], 0.6 + 0.3 * page.shape[0])
    figure = Figure(figsize=size, dpi=150)
    axes = figure.add_axes(
        (
            0.9 / size[0],
            0.1 / size[1],
            0.3 * page.shape[1] / size[0],
            0.3 * page.shape[0] / size[1],
        )
    )
    for i, found in enumerate(occupancies.values()):
        for j, view in enumerate(views):
            matrix = overlap_matrix(found, view).numpy()
            page[i * pitch : i * pitch + n, j * pitch : j * pitch + n] = matrix
    for y, x in np.argwhere(~np.isnan(page)):
        ink = "white" if page[y, x] > 0.6 else CELL_INK
        style: dict[str, Any] = {"color": ink, "fontsize": 6.5}
        style |= {"ha": "center", "va": "center"}
        axes.text(x, y, f"{100 * page[y, x]:.0f}", **style)
    axes.imshow(page, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    middle = (n - 1) / 2
    titles = [f"{_words(view)}, %" for view in views]
    axes.set_xticks([j * pitch + middle for j in range(len(views))], titles)
    axes.xaxis.tick_top()
    layers = [f"{_words(layer)}:\nrow old,\ncolumn new" for layer in occupancies]
    axes.set_yticks([i * pitch + middle for i in range(len(layers))], layers)
    despine(axes, frame=False)
    return figure


def drift_of_knots(drifts: Mapping[str, Sequence[Tensor]]) -> Figure:
    """How far coefficients moved since each experience, along the grid.

    A panel per layer; the root mean square over inputs of each knot's drift.

    Args:
        drifts: by layer, ``(in_features, n_basis)`` for each experience.
    """
    size = (0.8 + 3.2 * len(drifts), 2.8)
    figure = Figure(figsize=size, dpi=150)
    panels = figure.subplots(1, len(drifts), squeeze=False)[0]
    sides = {"left": 0.7 / size[0], "right": 1 - 0.1 / size[0], "wspace": 0.25}
    figure.subplots_adjust(bottom=0.18, top=0.9, **sides)
    for axes, (layer, since) in zip(panels, drifts.items()):
        for k, drift in enumerate(since[:-1]):  # since the last one, nothing moved
            values = drift.square().mean(0).sqrt().numpy()
            x = np.arange(1, len(values) + 1)
            style = {"marker": "o", "markersize": 3, "linewidth": 1.4}
            name = f"since experience {k + 1}"
            axes.plot(x, values, color=experience_colour(k), label=name, **style)
        axes.set_title(_words(layer), fontsize=9, color=INK)
        axes.set_xlabel("coefficient, along the grid", fontsize=8, color=INK)
        axes.set_ylim(bottom=0)
        despine(axes)
    panels[0].set_ylabel("drift, root mean square", fontsize=8, color=INK)
    panels[-1].legend(fontsize=7, frameon=False)
    return figure


def rollback_bars(
    regained: Mapping[str, Mapping[int, float]], score: str = "accuracy"
) -> Figure:
    """What putting back each group of parameters brings, experience by experience.

    Args:
        regained: by group, in the order drawn, the score on each old experience;
            ``nothing`` and ``all`` are the ends between which the others lie.
    """
    experiences = sorted({k for values in regained.values() for k in values})
    size = (2.6 + 0.16 * (len(regained) + 1) * len(experiences), 2.8)
    figure = Figure(figsize=size, dpi=150)
    across = 1 - 2.2 / size[0]
    axes = figure.add_axes((0.7 / size[0], 0.12, across, 0.82))
    width = 0.86 / len(regained)
    for place, (group, values) in enumerate(regained.items()):
        x = [k + width * (place - (len(regained) - 1) / 2) for k in experiences]
        heights = [values.get(k, 0.0) for k in experiences]
        ends = {"nothing": "#9A9A9A", "all": "#222222"}
        colour = ends.get(group, experience_colour(place - 1))
        axes.bar(x, heights, width, color=colour, label=_words(group))
    names = [f"experience {k + 1}" for k in experiences]
    axes.set_xticks(experiences, names, fontsize=8)
    axes.set_ylabel(f"{score} with that put back", fontsize=8, color=INK)
    beside: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
    axes.legend(fontsize=7, frameon=False, **beside)
    despine(axes)
    return figure


def _some(n: int, most: int) -> list[int]:
    """All of n, or so many at even distances, both ends among them."""
    return torch.linspace(0, n - 1, min(n, most)).round().int().tolist()


def _words(name: str) -> str:
    return name.replace("_", " ")
