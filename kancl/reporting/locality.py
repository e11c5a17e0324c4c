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
from kancl.reporting.colours import CELL_INK, FAINT, INK, experience_colour
from kancl.reporting.figures import CENTRED, label_axes, new_figure

MOST_ROWS, MOST_COLUMNS = 10, 8
VIEWS = ("exposure", "bhattacharyya", "kernel_ratio")


def locality_figures(
    reviews: Sequence[Review], image_shape: tuple[int, ...], score: str = "accuracy"
) -> dict[str, Figure]:
    """The pictures by name; ``score``: what the rollbacks are measured by."""
    kinds = by_layer(reviews)
    used, figures = kinds.get("occupancy", {}), {}
    first = next(iter(used.values()), torch.empty(0, 0))
    if len(image_shape) == 3 and first.shape[1] == prod(image_shape):
        figures["occupancy"] = occupancy_maps(first, image_shape)
    if used:
        each = {n: [review.usages[n].occupancy for review in reviews] for n in used}
        figures["overlap"] = overlap_matrices(each)
    if "drift" in kinds:
        figures["drift_per_knot"] = drift_of_knots(kinds["drift"])
    backs = [review.rollback.values for review in reviews if review.rollback]
    if backs:
        figures["rollback"] = rollback_bars(backs, score)
    return figures


def occupancy_maps(means: Tensor, image_shape: tuple[int, ...]) -> Figure:
    """How much each experience uses each basis of each pixel: pictures in rows.

    A row per experience, a column per basis from the low end of the grid to the high
    one (some of many, evenly chosen); one scale for all.

    Args:
        means: of the first layer, ``(n_experiences, in_features, n_basis)``.
    """
    rows = _some(len(means), MOST_ROWS)
    columns = _some(means[0].shape[1], MOST_COLUMNS)
    tiles = [[means[k][:, g].view(image_shape[-2:]) for g in columns] for k in rows]
    names = [f"experience {k + 1}" for k in rows], [f"basis {g + 1}" for g in columns]
    figure, axes, shown = _page(tiles, 2, 0.95, names, cmap="magma", vmin=0)
    bar = figure.colorbar(shown, ax=axes, fraction=0.03)
    bar.ax.tick_params(labelsize=7, colors=INK)
    bar.ax.set_title("mean\nactivation", fontsize=7, color=INK)
    return figure


def overlap_matrices(
    occupancies: Mapping[str, Sequence[Occupancy]], views: Sequence[str] = VIEWS
) -> Figure:
    """What experiences share, layer by layer and view by view, in percent.

    Row: old experience, column: new one; each measured just after its own training.
    """
    tiles = [
        [overlap_matrix(each, view) for view in views] for each in occupancies.values()
    ]
    names = [f"{in_words(layer)}:\nrow old,\ncolumn new" for layer in occupancies]
    titles = [f"{in_words(view)}, %" for view in views]
    pitch, scale = 0.3 * (len(tiles[0][0]) + 1), {"vmin": 0, "vmax": 1}
    figure, axes, shown = _page(tiles, 1, pitch, (names, titles), cmap="Blues", **scale)
    page = np.asarray(shown.get_array().filled(np.nan))
    for y, x in np.argwhere(~np.isnan(page)):
        ink = "white" if page[y, x] > 0.6 else CELL_INK
        number = f"{100 * page[y, x]:.0f}"
        axes.text(x, y, number, color=ink, fontsize=6.5, **CENTRED)
    return figure


def _page(
    tiles: Sequence[Sequence[Tensor]],
    gap: int,
    inches: float,
    names: tuple[Sequence[str], Sequence[str]],
    **style: Any,
) -> tuple[Figure, Any, Any]:
    """Rows of pictures, each so many inches wide, in one panel (drawing 40 panels took 3
    seconds), with empty strips between them and the names of rows and columns.
    """
    sides: Any = {"pad_width": ((0, gap), (0, gap)), "constant_values": np.nan}
    padded = [[np.pad(tile, **sides) for tile in row] for row in tiles]
    n_rows, n_columns = len(tiles), len(tiles[0])
    width, height = 1.9 + inches * n_columns, 0.6 + inches * n_rows
    figure, ((axes,),) = new_figure(width, height, frame=False)
    shown = axes.imshow(np.block(padded), aspect="auto", **style)
    y, x = (
        [(k + 0.5) * side - (gap + 1) / 2 for k in range(n)]
        for side, n in zip(padded[0][0].shape, (n_rows, n_columns))
    )
    axes.set_xticks(x, names[1])
    axes.set_yticks(y, names[0])
    axes.xaxis.tick_top()
    return figure, axes, shown


def drift_of_knots(drifts: Mapping[str, Tensor]) -> Figure:
    """How far coefficients moved since each experience, along the grid.

    A panel per layer; the root mean square over inputs of each knot's drift.

    Args:
        drifts: by layer ``(n_experiences, in_features, n_basis)``.
    """
    figure, (panels,) = new_figure(0.8 + 3.2 * len(drifts), 2.8, len(drifts))
    for axes, (layer, since) in zip(panels, drifts.items()):
        for k, drift in enumerate(since[:-1]):  # since the last one, nothing moved
            values = drift.square().mean(0).sqrt().numpy()
            style: Any = {"marker": "o", "markersize": 3, "linewidth": 1.4}
            style |= {
                "color": experience_colour(k),
                "label": f"since experience {k + 1}",
            }
            axes.plot(np.arange(1, len(values) + 1), values, **style)
        y = "" if axes is not panels[0] else "drift, root mean square"
        label_axes(axes, "coefficient, along the grid", y, in_words(layer), size=8)
        axes.set_ylim(bottom=0)
    panels[-1].legend(fontsize=7, frameon=False)
    return figure


def rollback_bars(
    regained: Sequence[Mapping[str, float]], score: str = "accuracy"
) -> Figure:
    """What putting back each group of parameters brings, experience by experience.

    Args:
        regained: for each old experience the score by group, in the order drawn, between
            ``nothing`` and ``all``.
    """
    groups = list(dict.fromkeys(group for values in regained for group in values))
    experiences = range(len(regained))
    inches = 2.6 + 0.16 * (len(groups) + 1) * len(regained)
    figure, ((axes,),) = new_figure(inches, 2.8)
    width = 0.86 / len(groups)
    ends = {"nothing": FAINT, "all": INK}
    for place, group in enumerate(groups):
        x = [k + width * (place - (len(groups) - 1) / 2) for k in experiences]
        heights = [values.get(group, 0.0) for values in regained]
        colour = ends.get(group, experience_colour(place - 1))
        axes.bar(x, heights, width, color=colour, label=in_words(group))
    axes.set_xticks(experiences, [f"experience {k + 1}" for k in experiences])
    label_axes(axes, y=f"{score} with that put back", size=8)
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def in_words(name: str) -> str:
    return name.replace("_", " ")


def _some(n: int, most: int) -> list[int]:
    """All of n, or so many at even distances, both ends among them."""
    return torch.linspace(0, n - 1, min(n, most)).round().int().tolist()
