"""Warps: piecewise linear maps of a feature to its place on the grid, in cells.

The spline behind stays uniform: a grid that follows the data costs a table look-up.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

# Share of the samples with one and the same value from which on it is an atom.
ATOM = 0.1


def warped(x: Tensor, low: Tensor, high: Tensor, table: Tensor) -> Tensor:
    """Positions in cells: ``table``, at evenly spaced x from ``low`` to ``high``.

    In between and beyond linear, as in the nearest interval.

    Shape: ``(batch, in_features)``, twice ``(in_features,)``, ``(in_features,
        resolution + 1)`` -> ``(batch, in_features)``, float64.
    """
    resolution = table.shape[1] - 1
    low, table = low.double(), table.double()
    steps = (x.double() - low) * (resolution / (high.double() - low))
    interval = steps.detach().nan_to_num(0).floor().clamp(0, resolution - 1).long()
    first = torch.arange(0, table.numel(), resolution + 1, device=x.device)
    index = interval + first  # (batch, in_features), into the flat table
    flat = table.reshape(-1)
    left, right = flat[index], flat[index + 1]
    return left + (steps - interval) * (right - left)


def quantile_warp(
    x: Tensor,
    low: Tensor,
    high: Tensor,
    grid_size: int,
    uniform_share: float = 0.2,
    resolution: int = 255,
) -> Tensor:
    """A warp that gives each cell the same share of the samples, atoms set apart.

    A feature's commonest value, such as a constant background, gets no share of the cells
    if it makes up ``ATOM`` of the samples or more. A feature without others is not warped.

    Args:
        uniform_share: 0 to 1; 1 does not warp. Above 0 every value has its room.
        resolution: intervals of the table; 255 lets 8-bit pixels fall on its nodes.
    Shape: ``(n, in_features)``, twice ``(in_features,)`` -> ``(in_features, resolution +
        1)``, float64.
    Raises: ValueError if ``x`` is not finite or ``uniform_share`` not in (0, 1].
    """
    if not 0 < uniform_share <= 1:
        raise ValueError(f"uniform_share is above 0 and at most 1, got {uniform_share}")
    if not bool(torch.isfinite(x).all()):
        raise ValueError("a warp is fitted on finite samples, got NaN or inf")
    low, high = low.double(), high.double()
    nodes = (x.double() - low) * (resolution / (high - low))
    nodes = nodes.round().clamp(0, resolution).long()  # (n, in_features)
    same = (x == x.mode(0).values).double()
    weights = 1 - same * (same.mean(0) >= ATOM)  # 0 for the samples of an atom
    counts = weights.new_zeros(x.shape[1], resolution + 1)
    counts.scatter_add_(1, nodes.T, weights.T)
    # A node's samples belong half to the interval on either side.
    halves = counts / 2
    halves[:, 0], halves[:, -1] = counts[:, 0], counts[:, -1]
    mass = halves[:, :-1] + halves[:, 1:]  # (in_features, resolution)
    total = mass.sum(1, keepdim=True)
    even = torch.full_like(mass, 1 / resolution)
    mass = torch.where(total > 0, mass / total.clamp(min=1), even)
    mass = uniform_share * even + (1 - uniform_share) * mass
    table = pad(mass.cumsum(1), (1, 0)) * grid_size
    table[:, -1] = grid_size
    return table
