"""B-spline bases on equally spaced knots, in closed form: the fast path.

Every basis function is one cardinal B-spline ``M_d``, shifted. Of all of them only
``degree + 1`` are not 0 at a point: the cell comes from ``floor``, the values from a
sum of truncated powers of the *local* coordinate, at most ``(d+1)/2`` of them, so that
nothing cancels however fine the grid.
"""

from math import comb, factorial

import torch
from torch import Tensor

from kancl.splines.basis import Outside


def uniform_basis(
    x: Tensor,
    low: Tensor,
    high: Tensor,
    grid_size: int,
    degree: int,
    outside: Outside = "zero",
) -> Tensor:
    """All basis functions at ``x`` on a uniform grid over ``[low, high]``.

    Index and local coordinate are computed in float64, since ``(x - low)/h`` in float32
    loses all digits that a fine grid needs; values in at least float32.

    Args:
        low, high: ends of the grid, one value per feature.
        outside: policy outside the grid, as for ``spline_basis``.
    Shape: ``(batch, in_features)`` -> ``(batch, in_features, grid_size + degree)``.
    """
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    n_basis = grid_size + degree
    low = low.double()
    position = (x.double() - low) * (grid_size / (high.double() - low))  # cells
    cell = position.detach().floor().nan_to_num(0).clamp(0, grid_size - 1)
    # In [0, 1) on the grid, below 0 or from 1 on outside of it.
    local = (position - cell).to(dtype).reshape(-1)  # (batch * in_features,)
    inside = local if outside == "zero" else local.clamp(0, 1)
    slot = torch.arange(degree + 1, device=x.device).unsqueeze(1)
    values = cardinal(inside + ((degree - 1) / 2 - slot).to(dtype), degree)
    if outside == "linear":
        values = values + (local - inside) * _end_slopes(local, degree)
    # One flat scatter: (degree + 1, batch * in_features) values to their columns.
    row = torch.arange(local.shape[0], device=x.device) * n_basis
    column = cell.long().reshape(-1) + row + slot
    basis = values.new_zeros(local.shape[0] * n_basis)
    basis = basis.scatter_(0, column.reshape(-1), values.reshape(-1))
    return basis.view(*x.shape, n_basis)


def cardinal(v: Tensor, degree: int) -> Tensor:
    """The centred cardinal B-spline, ``1/d! sum_k (-1)^k C(d+1,k) (r-k-|v|)_+^d``.

    ``r = (d+1)/2`` is half its support. Derivatives of every order are those from the
    right, at the knots too, as for half-open cells.

    Source: Schoenberg 1946, Quarterly of Applied Mathematics 4, 45-99.
    """
    radius = (degree + 1) / 2
    if v.requires_grad:
        distance = v * torch.where(v < 0, -1.0, 1.0).to(v.dtype)
    else:
        distance = v.abs()
    total = None
    for k in range(degree // 2 + 1):
        reach = radius - k
        if v.requires_grad:
            beyond = (v < -reach) | (v >= reach)  # False for NaN, which so goes on
            power = (reach - distance).masked_fill(beyond, 0) ** degree
        else:
            power = (reach - distance).clamp_(min=0).pow_(degree)
        factor = (-1) ** k * comb(degree + 1, k) / factorial(degree)
        total = power * factor if total is None else total.add(power, alpha=factor)
    assert total is not None
    return total


def second_moment(degree: int) -> float:
    """``E sum_g B_g(x)^2`` for ``x`` uniform on the grid: ``M_{2d+1}(0)``.

    2/3, 11/20, 151/315, ... for degree 1, 2, 3: the variance of a spline with
    independent coefficients of variance 1.
    """
    return float(cardinal(torch.zeros((), dtype=torch.float64), 2 * degree + 1))


def _end_slopes(local: Tensor, degree: int) -> Tensor:
    """Slopes of the ``degree + 1`` live bases at the nearer end, per cell width."""
    lower = [1.0]  # values of degree 0..d-1 at the left end of a cell
    for k in range(1, degree):
        padded = [0.0, *lower, 0.0]
        lower = [
            ((k - j) * padded[j] + (1 + j) * padded[j + 1]) / k for j in range(k + 1)
        ]
    left, right = [0.0, *lower, 0.0], [0.0, *reversed(lower), 0.0]
    at_left = local.new_tensor([left[j] - left[j + 1] for j in range(degree + 1)])
    at_right = local.new_tensor([right[j] - right[j + 1] for j in range(degree + 1)])
    return torch.where(local < 0, at_left.unsqueeze(1), at_right.unsqueeze(1))
