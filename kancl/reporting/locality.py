"""Figures of locality: what experiences use and share, what moved, who forgot."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from kancl.metrics.locality import Occupancy, overlap_matrix
from kancl.reporting.colours import CELL_INK, INK, experience_colour
from kancl.reporting.figures import quiet

MOST_ROWS, MOST_COLUMNS = 10, 8


def occupancy_maps(means: Sequence[Tensor], image_shape: tuple[int, ...]) -> Figure:
    """How much each experience uses each basis of each pixel: pictures in rows.

    A row per experience, a column per basis from the low end of the grid to the high
    one (at most so many of each, evenly chosen); one scale for all.

    Args:
        means: of the first layer, ``(in_features, n_basis)`` for each experience.
    """
    rows = _some(len(means), MOST_ROWS)
    columns = _some(means[0].shape[1], MOST_COLUMNS)
    top = max(float(mean.max()) for mean in means) or 1.0
    size = (0.9 + 1.05 * len(columns), 0.9 + 1.05 * len(rows))
    figure = Figure(figsize=size, layout="constrained", dpi=150)
    panels = figure.subplots(len(rows), len(columns), squeeze=False)
    for line, k in zip(panels, rows):
        for axes, g in zip(line, columns):
            picture = means[k][:, g].view(image_shape[-2:]).numpy()
            shown = axes.imshow(picture, cmap="magma", vmin=0, vmax=top)
            axes.set_xticks([])
            axes.set_yticks([])
            quiet(axes, frame=False)
        line[0].set_ylabel(f"experience {k + 1}", fontsize=7, color=INK)
    for axes, g in zip(panels[0], columns):
        axes.set_title(f"basis {g + 1}", fontsize=7, color=INK)
    bar = figure.colorbar(shown, ax=panels, shrink=0.6, pad=0.02)
    bar.ax.tick_params(labelsize=7, colors=INK)
    bar.set_label("mean activation over samples", fontsize=7, color=INK)
    return figure


def overlap_matrices(
    occupancies: Mapping[str, Sequence[Occupancy]],
    views: Sequence[str] = ("exposure", "bhattacharyya", "kernel_ratio"),
) -> Figure:
    """What experiences share, layer by layer and view by view, in percent.

    Row: old experience, column: new one; each measured just after its own training.
    """
    n = len(next(iter(occupancies.values())))
    side = 0.5 + 0.32 * n
    size = (1.0 + side * len(views), 0.6 + side * len(occupancies))
    figure = Figure(figsize=size, layout="constrained", dpi=150)
    panels = figure.subplots(len(occupancies), len(views), squeeze=False)
    for line, (layer, found) in zip(panels, occupancies.items()):
        for axes, view in zip(line, views):
            matrix = overlap_matrix(found, view)
            axes.imshow(matrix.numpy(), cmap="Blues", vmin=0, vmax=1)
            for s in range(n):
                for t in range(n):
                    value = matrix[s, t].item()
                    colour = "white" if value > 0.6 else CELL_INK
                    style = {"ha": "center", "va": "center", "color": colour}
                    axes.text(t, s, f"{100 * value:.0f}", fontsize=6.5, **style)
            ticks = range(n), [str(k + 1) for k in range(n)]
            axes.set_xticks(*ticks)
            axes.set_yticks(*ticks)
            quiet(axes, frame=False)
        line[0].set_ylabel(f"{_words(layer)}\nold experience", fontsize=8, color=INK)
    for axes, view in zip(panels[0], views):
        axes.set_title(f"{_words(view)}, %", fontsize=8, color=INK)
    for axes in panels[-1]:
        axes.set_xlabel("new experience", fontsize=8, color=INK)
    return figure


def drift_of_knots(drifts: Mapping[str, Sequence[Tensor]]) -> Figure:
    """How far coefficients moved since each experience, along the grid.

    A panel per layer; the root mean square over inputs of each knot's drift.

    Args:
        drifts: by layer, ``(in_features, n_basis)`` for each experience.
    """
    size = (0.8 + 3.2 * len(drifts), 2.8)
    figure = Figure(figsize=size, layout="constrained", dpi=150)
    panels = figure.subplots(1, len(drifts), squeeze=False)[0]
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
    size = (1.2 + 0.24 * len(regained) * len(experiences), 3.0)
    figure = Figure(figsize=size, layout="constrained", dpi=150)
    axes = figure.subplots()
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
    axes.legend(
        fontsize=7, frameon=False, ncols=2, loc="center left", bbox_to_anchor=(1, 0.5)
    )
    quiet(axes)
    return figure


def _some(n: int, most: int) -> list[int]:
    """All of n, or so many at even distances, both ends among them."""
    return torch.linspace(0, n - 1, min(n, most)).round().int().tolist()


def _words(name: str) -> str:
    return name.replace("_", " ")
