"""Figures of locality: what experiences use and share, what moved, what forgot."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from kancl.metrics.diagnosis import Review, by_layer
from kancl.metrics.locality import Occupancy, overlap_matrix
from kancl.reporting.colours import CELL_INK, INK, experience_colour
from kancl.reporting.figures import quiet

MOST_ROWS, MOST_COLUMNS = 10, 8


def locality_figures(
    reviews: Sequence[Review], image_shape: tuple[int, ...], score: str = "accuracy"
) -> dict[str, Figure]:
    """The pictures by name.

    Args:
        score: what the rollbacks are measured by.
    """
    kinds, figures = by_layer(reviews), {}
    used = kinds.get("occupancy", {})
    first = next(iter(used.values()), torch.empty(0, 0))
    if len(image_shape) == 3 and first.shape[1] == prod(image_shape):
        figures["occupancy"] = occupancy_maps(first, image_shape)
    if used:
        occupancies = {
            layer: [
                Occupancy(*sizes, 1) for sizes in zip(means, kinds["largest"][layer])
            ]
            for layer, means in used.items()
        }
        figures["overlap"] = overlap_matrices(occupancies)
    if "drift" in kinds:
        figures["drift_per_knot"] = drift_of_knots(kinds["drift"])
    backs = {r.experience: r.rollback for r in reviews if r.rollback is not None}
    if backs:
        regained = {"nothing": {k: back.now for k, back in backs.items()}}
        for k, back in backs.items():
            for group, value in back.regained.items():
                regained.setdefault(group, {})[k] = value
        figures["rollback"] = rollback_bars(regained, score)
    return figures


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
    tiles = [[means[k][:, g].view(height, width) for g in columns] for k in rows]
    size = (1.9 + 0.95 * len(columns), 0.5 + 0.95 * len(rows))
    figure = Figure(figsize=size, dpi=150)
    across, up = 0.95 * len(columns) / size[0], 0.95 * len(rows) / size[1]
    axes = figure.add_axes((0.9 / size[0], 0.05 / size[1], across, up))
    shown = axes.imshow(_page(tiles, gap), cmap="magma", vmin=0, aspect="auto")
    middles = [(width + gap) * j + width / 2 for j in range(len(columns))]
    axes.set_xticks(middles, [f"basis {g + 1}" for g in columns], fontsize=7)
    axes.xaxis.tick_top()
    middles = [(height + gap) * i + height / 2 for i in range(len(rows))]
    axes.set_yticks(middles, [f"experience {k + 1}" for k in rows], fontsize=7)
    quiet(axes, frame=False)
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
    tiles = [
        [overlap_matrix(each, view) for view in views] for each in occupancies.values()
    ]
    page = _page(tiles, 1)
    width, height = 0.3 * page.shape[1], 0.3 * page.shape[0]
    size = (1.1 + width, 0.6 + height)
    figure = Figure(figsize=size, dpi=150)
    axes = figure.add_axes(
        (0.9 / size[0], 0.1 / size[1], width / size[0], height / size[1])
    )
    for y, x in np.argwhere(~np.isnan(page)):
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 6.5}
        ink = "white" if page[y, x] > 0.6 else CELL_INK
        axes.text(x, y, f"{100 * page[y, x]:.0f}", color=ink, **style)
    axes.imshow(page, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    middle = (n - 1) / 2
    titles = [f"{in_words(view)}, %" for view in views]
    axes.set_xticks([j * (n + 1) + middle for j in range(len(views))], titles)
    axes.xaxis.tick_top()
    layers = [f"{in_words(layer)}:\nrow old,\ncolumn new" for layer in occupancies]
    axes.set_yticks([i * (n + 1) + middle for i in range(len(layers))], layers)
    quiet(axes, frame=False)
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
        axes.set_title(in_words(layer), fontsize=9, color=INK)
        axes.set_xlabel("coefficient, along the grid", fontsize=8, color=INK)
        axes.set_ylim(bottom=0)
        quiet(axes)
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
    axes = figure.add_axes((0.7 / size[0], 0.12, 1 - 2.2 / size[0], 0.82))
    width = 0.86 / len(regained)
    ends = {"nothing": "#9A9A9A", "all": "#222222"}
    for place, (group, values) in enumerate(regained.items()):
        x = [k + width * (place - (len(regained) - 1) / 2) for k in experiences]
        heights = [values.get(k, 0.0) for k in experiences]
        colour = ends.get(group, experience_colour(place - 1))
        axes.bar(x, heights, width, color=colour, label=in_words(group))
    names = [f"experience {k + 1}" for k in experiences]
    axes.set_xticks(experiences, names, fontsize=8)
    axes.set_ylabel(f"{score} with that put back", fontsize=8, color=INK)
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    quiet(axes)
    return figure


def in_words(name: str) -> str:
    return name.replace("_", " ")


def _page(tiles: Sequence[Sequence[Tensor]], gap: int) -> np.ndarray:
    """Rows of pictures on one page, an empty strip below and right of each."""
    pad, empty = ((0, gap), (0, gap)), {"constant_values": np.nan}
    return np.block(
        [[np.pad(tile.numpy(), pad, **empty) for tile in row] for row in tiles]
    )


def _some(n: int, most: int) -> list[int]:
    """All of n, or so many at even distances, both ends among them."""
    return torch.linspace(0, n - 1, min(n, most)).round().int().tolist()
