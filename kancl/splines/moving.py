"""Knots that move to where the data are, as far as the functions stay."""

import torch
from torch import Tensor

from kancl.splines.basis import Outside, spline_basis
from kancl.splines.fitting import Refit, refit
from kancl.splines.knots import adapted_knots, grid_ends, is_uniform
from kancl.splines.uniform import uniform_basis

# Largest change of a feature's functions, of their root mean square.
TOLERANCE = 0.01
SHARES = 1.0, 0.5, 0.25, 0.125  # of the way, tried in turn


def moved_grid(
    x: Tensor,
    grid: Tensor,
    coefficients: Tensor,
    degree: int,
    outside: Outside,
    uniform_share: float,
    margin: float,
) -> tuple[Tensor, Tensor]:
    """New knots, and the map from old coefficients to those for them.

    The aim are the knots of ``adapted_knots``. With as many coefficients as before a
    spline on other knots can't be quite the same: each feature's knots go the whole way,
    a half, a quarter, an eighth, or stay, the first that changes its functions by at most
    ``TOLERANCE``, on the samples and all over the new grid alike. Features with samples
    off the present grid go the whole way.

    Args:
        x: samples.
        grid: the present knots; the new ones come rounded to its dtype.
        coefficients: in use on them.
    Shape: ``(n, in_features)``, ``(in_features, n_knots)``, ``(out_features, in_features,
        n_basis)`` -> as ``grid``, ``(in_features, n_basis, n_basis)``, both float64.
    """
    x, present = x.double(), grid.double()
    aim = adapted_knots(x, present, degree, uniform_share, margin)
    low, high = grid_ends(present, degree)
    off_grid = (x.amin(0) < low) | (x.amax(0) > high)
    knots = present.clone()
    matrix = torch.eye(coefficients.shape[-1], dtype=x.dtype, device=x.device)
    matrix = matrix.repeat(len(grid), 1, 1)
    todo = torch.ones_like(off_grid)
    for share in SHARES:
        # Rounded as the grid will be, so that the fit is to the knots in use.
        tried = (present + share * (aim - present)).to(grid.dtype).double()
        fit = _fit(x, present, tried, grid.dtype, degree, outside)
        fine = fit.relative_change(coefficients) <= TOLERANCE
        accepted = todo & (fine | off_grid)
        knots[accepted], matrix[accepted] = tried[accepted], fit.matrix[accepted]
        todo &= ~accepted
        if not bool(todo.any()):
            break
    return knots, matrix


def _fit(
    x: Tensor,
    present: Tensor,
    knots: Tensor,
    dtype: torch.dtype,
    degree: int,
    outside: Outside,
) -> Refit:
    """From the present knots to others, over samples and, equally, the new grid."""
    low, high = grid_ends(knots, degree)
    size = knots.shape[-1] - 1 - 2 * degree
    share = torch.linspace(0, 1, 16 * size, device=x.device).to(x.dtype)
    even = low + share.unsqueeze(1) * (high - low)  # (n_even, in_features)
    weights = [torch.full_like(points[:, 0], 1 / len(points)) for points in (x, even)]

    def basis_on(knots: Tensor, points: Tensor) -> Tensor:
        if is_uniform(knots.to(dtype), degree):
            return uniform_basis(
                points, *grid_ends(knots, degree), size, degree, outside
            )
        return spline_basis(points, knots, degree, outside)

    return refit(
        lambda points: basis_on(present, points),
        lambda points: basis_on(knots, points),
        torch.cat([x, even]),
        torch.cat(weights),
    )
