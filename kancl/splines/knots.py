"""Knot vectors and warps: where a grid's cells lie.

Throughout, ``knots`` is the extended vector of one feature, ``grid_size +
2*degree + 1`` long; the grid proper is ``knots[degree] .. knots[-degree-1]``. A warp
leaves knots even: it is a piecewise linear map of a feature to its place, in cells, so
that a grid that follows the data costs a table look-up.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

# Narrowest cell that adapted knots may have, as a share of the uniform cell.
NARROWEST_CELL = 0.02
# Share of the samples with one and the same value from which on it is an atom.
ATOM = 0.1


def uniform_knots(
    low: float | Tensor, high: float | Tensor, grid_size: int, degree: int
) -> Tensor:
    """Equally spaced knots over ``[low, high]`` and ``degree`` cells beyond.

    Shape: ``()`` or ``(in_features,)`` -> ``(..., grid_size + 2*degree + 1)``, float64.
    """
    low = torch.as_tensor(low, dtype=torch.float64).unsqueeze(-1)
    high = torch.as_tensor(high, dtype=torch.float64).unsqueeze(-1)
    step = torch.arange(-degree, grid_size + degree + 1, device=low.device).double()
    # Both ends enter exactly: no rounding error accumulates towards `high`.
    return (low * (grid_size - step) + high * step) / grid_size


def ends_of(
    grid_range: Sequence[float] | Tensor, in_features: int
) -> tuple[Tensor, Tensor]:
    """Both ends of every input's grid, ``(in_features,)`` float64, on the CPU.

    Raises: ValueError unless every pair increases and is finite.
    """
    ends = torch.as_tensor(grid_range, dtype=torch.float64, device="cpu")
    if ends.shape not in ((2,), (in_features, 2)):
        raise ValueError(
            f"grid_range is a pair (low, high) or one per input ({in_features}, 2), "
            f"got shape {tuple(ends.shape)}"
        )
    pairs = ends.reshape(-1, 2)
    wrong = ~((pairs[:, 0] < pairs[:, 1]) & pairs.isfinite().all(1))
    if bool(wrong.any()):
        low, high = pairs[wrong][0].tolist()
        raise ValueError(
            "grid_range must increase from one finite end to another, got "
            f"({low}, {high})"
        )
    low, high = pairs.expand(in_features, 2).unbind(1)
    return low, high


def anchors_of(value: float | Tensor, in_features: int) -> Tensor:
    """An anchor for every input, ``(in_features,)``, on the CPU.

    Raises: ValueError unless there is one number, or one per input.
    """
    values = torch.as_tensor(value, dtype=torch.get_default_dtype(), device="cpu")
    if values.shape not in ((), (in_features,)):
        raise ValueError(
            f"anchor is one number or one per input ({in_features}), got shape "
            f"{tuple(values.shape)}"
        )
    return values.expand(in_features).clone()


def grid_ends(knots: Tensor, degree: int) -> tuple[Tensor, Tensor]:
    """First and last knot of the grid proper, one value per feature."""
    return knots[..., degree], knots[..., knots.shape[-1] - 1 - degree]


def is_uniform(knots: Tensor, degree: int) -> bool:
    """``evenly_spaced``, read: on a GPU it waits for the answer."""
    return bool(evenly_spaced(knots, degree))


def evenly_spaced(knots: Tensor, degree: int) -> Tensor:
    """Whether every feature's knots are so, up to their dtype's rounding, ``()``."""
    low, high = grid_ends(knots.double(), degree)
    grid_size = knots.shape[-1] - 1 - 2 * degree
    expected = uniform_knots(low, high, grid_size, degree)
    largest = knots.abs().amax(-1, keepdim=True).double()  # of each feature
    rounding = 8 * torch.finfo(knots.dtype).eps * largest
    even = ((knots.double() - expected).abs() <= rounding).all()
    return even & (high > low).all()


def adapted_knots(
    x: Tensor, knots: Tensor, degree: int, uniform_share: float, margin: float
) -> Tensor:
    """Knots that cover the data, between equally spaced and at its quantiles.

    ``uniform_share*uniform + (1 - uniform_share)*quantiles``, then every cell is
    widened to at least ``NARROWEST_CELL`` of the uniform cell, so that repeated
    values never make empty cells. A feature that is constant in ``x`` keeps its knots,
    shifted only if it fell off them.

    Args:
        uniform_share: 1 spaces the knots equally, 0 puts them at the quantiles.
        margin: how far the grid reaches beyond the smallest and largest sample.
    Shape: ``(n, in_features)``, ``(in_features, n_knots)`` -> as ``knots``, float64.
    Source: Liu et al. 2024, arXiv:2404.19756, section 2.5 (grid extension); differs:
        narrowest cell, constant features.
    """
    grid_size = knots.shape[-1] - 1 - 2 * degree
    x, knots = x.double(), knots.double()
    low, high = x.amin(0) - margin, x.amax(0) + margin
    uniform = uniform_knots(low, high, grid_size, degree)
    share = torch.linspace(0, 1, grid_size + 1, dtype=x.dtype, device=x.device)
    quantiles = x.sort(dim=0).values[(share * (len(x) - 1)).long()].T.clone()
    quantiles[:, 0], quantiles[:, -1] = low, high
    inner = uniform[:, degree : degree + grid_size + 1]
    inner = uniform_share * inner + (1 - uniform_share) * quantiles
    step = (high - low) / grid_size
    cells = inner.diff(dim=1)  # (in_features, grid_size)
    cells = torch.maximum(cells, NARROWEST_CELL * step.unsqueeze(1))
    cells = cells * ((high - low) / cells.sum(1)).unsqueeze(1)
    beyond = torch.arange(1, degree + 1, dtype=x.dtype, device=x.device)
    beyond = beyond * step.unsqueeze(1)  # (in_features, degree)
    low, high = low.unsqueeze(1), high.unsqueeze(1)
    parts = low - beyond.flip(1), low, low + cells.cumsum(1), high + beyond
    adapted = torch.cat(parts, dim=1)
    old_low, old_high = grid_ends(knots, degree)
    value = x[0]
    shift = (value - old_high).clamp(min=0) + (value - old_low).clamp(max=0)
    constant = x.amax(0) == x.amin(0)
    return torch.where(constant.unsqueeze(1), knots + shift.unsqueeze(1), adapted)


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
