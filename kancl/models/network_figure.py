"""A picture of a whole KAN: every edge its learned function, darker the more it matters."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, cast

import numpy as np
import torch
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from torch import Tensor

from kancl.models.edges import EdgeScores, edge_scores, layers_with_inputs, n_edges
from kancl.models.kan_linear import KANLinear

INK = "#222222"
CONTRAST = 3.0
"""An edge is as dark as ``tanh(CONTRAST * score)``, as in the paper's figures."""
PALEST = 0.08
N_POINTS = 61
N_SAMPLES = 512
BOX = 0.38  # half of a tile's side; tiles are 1 apart


@dataclass(frozen=True)
class _Edge:
    source: int
    target: int
    darkness: float
    curve: np.ndarray  # (N_POINTS, 2), within [-1, 1]


@torch.no_grad()
def network_figure(
    network: Any,
    x: Tensor | None = None,
    *,
    heads: Sequence[KANLinear] = (),
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    max_edges: int = 20,
    title: str = "",
) -> Figure:
    """Draw a KAN from the inputs below to the outputs on top.

    A tile shows an edge's function over the range of the values that enter it, as high as
    it gets; its darkness is ``tanh(3 score)``, the score being the edge's attribution
    (``EdgeScores``), divided by the largest of its layer. Of a layer with more edges than
    ``max_edges`` the strongest are drawn that lead to a node drawn above, and at least one
    for each of those; the picture says so, and orders its nodes so that few edges cross.
    Edges that are pruned, or constant on the samples, are not drawn.

    Args:
        network: a ``KAN``; without its last layer if there are heads.
        x: samples that scores and ranges are taken from, ``(n, in_features)``; None: an
            even sample of the first layer's grids.
        heads: last layers on its features, taken as one.
        input_names, output_names: one per node.
        max_edges: of a layer.
    Raises: ValueError for names that are too few or too many.
    Source: Liu et al. 2024, arXiv:2404.19756, section 2.5.1 and figure 2.4.
    """
    if x is None:
        x, samples = _even_sample(network.layers[0]), "an even sample of the grids"
    else:
        samples = f"{len(x):,} samples"
    scores = edge_scores(network, x, heads)
    shown = _strongest(scores, max_edges)
    rows = [
        _edges(layers, inputs, edges, score)
        for (layers, inputs), edges, score in zip(
            layers_with_inputs(network, x, heads), shown, scores.relative()
        )
    ]
    nodes = _ordered_nodes(rows, [len(node) for node in scores.nodes])
    names = (
        _names("input_names", input_names, nodes[0], len(scores.nodes[0]), "x"),
        _names("output_names", output_names, nodes[-1], len(scores.nodes[-1]), "y"),
    )
    note = f"darker: larger share of the output's variation, over {samples}"
    groups = [[layer] for layer in network.layers] + [[*heads]] * bool(heads)
    for k, (row, layers) in reversed([*enumerate(zip(rows, groups), start=1)]):
        n = sum(map(n_edges, layers))
        if len(row) < min(n, (scores.attribution[k - 1] > 0).sum()):
            note += (
                f"\nlayer {k}: {len(row)} of {n:,} edges, the strongest that lead on"
            )
    return _draw(rows, nodes, names, note, title)


def _even_sample(layer: KANLinear) -> Tensor:
    grid = layer.spline_grid
    sobol = torch.quasirandom.SobolEngine(layer.in_features, scramble=True, seed=0)
    share = sobol.draw(N_SAMPLES).to(grid.low)
    return grid.low + share * (grid.high - grid.low)


def _strongest(scores: EdgeScores, most: int) -> list[list[tuple[int, int]]]:
    """By layer, the edges ``(source, target)`` to draw, chosen from the outputs back."""
    shown: list[list[tuple[int, int]]] = []
    targets = [*range(scores.attribution[-1].shape[1])]
    for score in reversed(scores.attribution):
        columns = torch.tensor(targets, dtype=torch.long)
        part = score.cpu()[:, columns]
        order = part.flatten().argsort(descending=True, stable=True).tolist()
        order = [k for k in order if part.flatten()[k] > 0]
        best = set(order[:most])
        if len(targets) <= most and len(order) > most:  # one for each node at least
            tops = part.argmax(0).tolist()
            best |= {i * len(targets) + j for j, i in enumerate(tops)} & set(order)
        edges = sorted(divmod(k, len(targets)) for k in best)
        shown.insert(0, [(i, int(columns[j])) for i, j in edges])
        targets = sorted({i for i, _ in edges})
    return shown


def _edges(
    layers: list[KANLinear], x: Tensor, edges: list[tuple[int, int]], score: Tensor
) -> list[_Edge]:
    """The functions of some edges over the range of the layer's inputs."""
    low, high = x.amin(0), x.amax(0)
    share = torch.linspace(0, 1, N_POINTS, dtype=x.dtype, device=x.device).unsqueeze(1)
    points = low + share * (high - low)  # (N_POINTS, in_features)
    owners = [(layer, o) for layer in layers for o in range(layer.out_features)]
    basis = layers[0].b_splines(points)
    across = np.linspace(-1, 1, N_POINTS)
    drawn = []
    for i, j in edges:
        layer, o = owners[j]
        bases = basis if layer is layers[0] else layer.b_splines(points)
        y = bases[:, i].double() @ layer.scaled_coefficients[i, :, o].double()
        if (weight := layer.masked_base_weight) is not None:
            y = y + weight[o, i].double() * layer.base_activation(points[:, i])
        y = y - (y.max() + y.min()) / 2
        upward = (y / y.abs().max().clamp(min=1e-30)).cpu().numpy()
        dark = PALEST + (1 - PALEST) * float(torch.tanh(CONTRAST * score[i, j]))
        drawn.append(_Edge(i, j, dark, np.stack([across, upward], 1)))
    return drawn


def _ordered_nodes(rows: list[list[_Edge]], sizes: list[int]) -> list[list[int]]:
    """The nodes of each row of nodes, from the left to the right.

    All of them in their own order where they are few; otherwise those with an edge, each
    below the middle of the nodes that its edges lead to.
    """
    shown = [sorted({edge.source for edge in row}) for row in rows]
    shown.append(sorted({edge.target for edge in rows[-1]}))
    few = max(map(len, shown))
    nodes = [[*range(n)] if n <= few else part for n, part in zip(sizes, shown)]
    for k in reversed(range(len(rows))):
        if len(nodes[k]) == sizes[k]:
            continue
        places = dict(zip(nodes[k + 1], _places(len(nodes[k + 1]), 1.0)))
        above: dict[int, list[float]] = {node: [] for node in nodes[k]}
        for edge in rows[k]:
            above[edge.source].append(places[edge.target])
        nodes[k].sort(key=lambda node: fmean(above[node]))
    return nodes


def _names(
    key: str, names: Sequence[str] | None, nodes: list[int], n: int, letter: str
) -> list[str]:
    if names is None:
        return [f"${letter}_{{{k}}}$" for k in nodes]
    if len(names) != n:
        raise ValueError(f"expected {n} {key}, got {len(names)}")
    return [names[k] for k in nodes]


def _places(n: int, width: float) -> np.ndarray:
    return (np.arange(n) + 0.5) * width / n


def _draw(
    rows: list[list[_Edge]],
    nodes: list[list[int]],
    names: tuple[list[str], list[str]],
    note: str,
    title: str,
) -> Figure:
    widest = max(*map(len, rows), *map(len, nodes), 8)
    rise = max(2.6, 0.15 * widest)  # from one row of nodes to the next
    bottom = -1.4 - 0.5 * note.count("\n")
    top = rise * len(rows) + (1.5 if title else 0.9)
    unit = max(0.28, 4.2 / widest)  # inches
    figure = Figure(figsize=(widest * unit, (top - bottom) * unit), dpi=150)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    lines: list[np.ndarray] = []
    inks: list[float] = []
    curves: list[np.ndarray] = []
    boxes: list[np.ndarray] = []
    square = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)])
    ends = [dict(zip(row, _places(len(row), widest))) for row in nodes]
    for level, (row, below, above) in enumerate(zip(rows, ends, ends[1:])):
        base, middle = rise * level, rise * (level + 0.5)
        for edge, at in zip(
            sorted(row, key=lambda e: (below[e.source], above[e.target])),
            _places(len(row), widest),
        ):
            centre = np.array([at, middle])
            lines.append(np.array([(below[edge.source], base), (at, middle - BOX)]))
            end = above[edge.target], base + rise
            lines.append(np.array([(at, middle + BOX), end]))
            boxes.append(centre + BOX * square)
            curves.append(centre + 0.8 * BOX * edge.curve)
            inks.append(edge.darkness)
    for parts, width, ink in (
        (lines, 0.9, np.repeat(inks, 2)),
        (boxes, 0.6, np.array(inks)),
        (curves, 1.3, np.array(inks)),
    ):
        colours = [to_rgba(INK, each) for each in ink]
        drawing: Any = {"linewidths": width, "colors": colours, "capstyle": "round"}
        axes.add_collection(LineCollection(cast(Any, parts), **drawing))
    for level, row_ends in enumerate(ends):
        heights = [rise * level] * len(row_ends)
        axes.scatter([*row_ends.values()], heights, s=16, color=INK, zorder=3)
    text: Any = {"ha": "center", "color": INK}
    size = 8 if max(map(len, names)) <= 12 else 6
    for at, name in zip(ends[0].values(), names[0]):
        axes.text(at, -0.3, name, va="top", fontsize=size, **text)
    for at, name in zip(ends[-1].values(), names[1]):
        axes.text(at, rise * len(rows) + 0.3, name, fontsize=size, **text)
    axes.text(widest / 2, -0.95, note, va="top", fontsize=6, linespacing=1.5, **text)
    axes.text(widest / 2, top - 0.2, title, va="top", fontsize=10, **text)
    axes.set_xlim(0, widest)
    axes.set_ylim(bottom, top)
    return figure
