"""Least-squares coefficients: of a curve, and of an old spline on moved knots.

By normal equations with a tiny ridge, in float64: well defined where a basis saw no
sample, and right on CUDA, where ``torch.linalg.lstsq`` fails for rank-deficient input
(pytorch #117122).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kancl.splines.basis import Outside
from kancl.splines.grid import Grid
from kancl.splines.insertion import Insertion, insertion_matrix
from kancl.splines.knots import adapted_knots, grid_ends, uniform_knots

RIDGE = 1e-10  # of the mean diagonal
TOLERANCE = 0.01  # largest change of a feature's functions, of their root mean square
SHARES = 1.0, 0.5, 0.25, 0.125  # of the way that knots move, tried in turn


def fit_coefficients(basis: Tensor, y: Tensor) -> Tensor:
    """Coefficients of the curve through (or nearest to) the points ``y``.

    Where the points leave them open, those of least norm.

    Shape: ``(in_features, n, n_basis)``, ``(in_features, n, out)`` ->
        ``(in_features, n_basis, out)``.
    """
    transposed = basis.double().transpose(1, 2)
    return _solve(transposed @ basis.double(), transposed @ y.double()).to(y.dtype)


@dataclass(frozen=True)
class Refit:
    """The linear map from old coefficients to those that keep the function best.

    One for all outputs of a feature, since it does not depend on the coefficients.

    Args:
        matrix: the map itself, ``(in_features, n_new, n_old)``.
        residual, size: quadratic forms in the old coefficients, ``(in_features, n_old,
            n_old)``: mean square of the change that remains, and of the function.
    """

    matrix: Tensor
    residual: Tensor
    size: Tensor

    def relative_change(self, coefficients: Tensor) -> Tensor:
        """Root mean square change of a feature's functions over that of the functions.

        Shape: ``(out_features, in_features, n_old)`` -> ``(in_features,)``.
        """
        c = coefficients.double()
        change = torch.einsum("oim,imn,oin->i", c, self.residual, c)
        size = torch.einsum("oim,imn,oin->i", c, self.size, c)
        return (change.clamp(min=0) / size.clamp(min=1e-300)).sqrt()


def refit(
    old_basis: Callable[[Tensor], Tensor],
    new_basis: Callable[[Tensor], Tensor],
    points: Tensor,
    weights: Tensor,
    chunk_size: int = 1024,
) -> Refit:
    """``R = (sum w N N^T)^-1 sum w N O^T`` over points, new and old bases ``N``, ``O``.

    Args:
        old_basis, new_basis: ``(n, in_features)`` -> ``(n, in_features, n_basis)``.
        points: where the function is to be kept, ``(n, in_features)``.
        weights: one for each point, ``(n,)``.
        chunk_size: points evaluated at a time.
    """
    new_new = new_old = old_old = points.new_zeros(())
    for x, w in zip(points.split(chunk_size), weights.split(chunk_size)):
        new = new_basis(x).transpose(0, 1)  # (in_features, n, n_new)
        old = old_basis(x).transpose(0, 1)  # (in_features, n, n_old)
        weighted = (new * w.view(-1, 1)).transpose(1, 2)
        new_new = new_new + weighted @ new
        new_old = new_old + weighted @ old
        old_old = old_old + (old * w.view(-1, 1)).transpose(1, 2) @ old
    matrix = _solve(new_new, new_old)
    back = matrix.transpose(1, 2)
    mixed = back @ new_old
    residual = old_old - mixed - mixed.transpose(1, 2) + back @ new_new @ matrix
    return Refit(matrix, residual, old_old)


def fitted_knots(x: Tensor, grid: Grid) -> Tensor:
    """Uniform knots from each input's smallest sample to its largest, float64.

    An input that is constant keeps its ends; an anchor stays on the grid.
    """
    low, high = x.amin(0).double(), x.amax(0).double()  # (in_features,)
    if grid.anchor is not None:
        low = torch.minimum(low, grid.anchor.double())
        high = torch.maximum(high, grid.anchor.double())
    varied = low < high
    low = torch.where(varied, low, grid.low.double())
    high = torch.where(varied, high, grid.high.double())
    return uniform_knots(low, high, grid.size, grid.degree)


def moved_grid(
    x: Tensor, grid: Grid, coefficients: Tensor, uniform_share: float, margin: float
) -> tuple[Tensor, Tensor]:
    """Knots nearer to the data, and the map from old coefficients to those for them.

    A spline with as many coefficients on other knots can't be quite the same: each
    feature's knots go the whole way to ``adapted_knots``, a half, a quarter, an eighth, or
    stay, the first that changes its functions by at most ``TOLERANCE``, on the samples and
    all over the new grid. Features with samples off the present grid go the whole way.

    Args:
        coefficients: in use, ``(out_features, in_features, n_basis)``.
    Returns: knots rounded to the grid's dtype, and ``(in_features, n_basis, n_basis)``,
        both float64.
    """
    x, present = x.double(), grid.knots.double()
    aim = adapted_knots(x, present, grid.degree, uniform_share, margin)
    low, high = grid_ends(present, grid.degree)
    off_grid = (x.amin(0) < low) | (x.amax(0) > high)
    knots = present.clone()
    matrix = torch.eye(coefficients.shape[-1], dtype=x.dtype, device=x.device)
    matrix = matrix.repeat(len(knots), 1, 1)
    todo = torch.ones_like(off_grid)
    for share in SHARES:
        # Rounded as the grid will be, so that the fit is to the knots in use.
        tried = (present + share * (aim - present)).to(grid.knots.dtype)
        fit = _fit(x, grid, Grid(tried, grid.degree, grid.outside))
        fine = fit.relative_change(coefficients) <= TOLERANCE
        accepted = todo & (fine | off_grid)
        knots[accepted] = tried.double()[accepted]
        matrix[accepted] = fit.matrix[accepted]
        todo &= ~accepted
        if not bool(todo.any()):
            break
    return knots, matrix


def resizing(grid: Grid, size: int, coefficients: Tensor) -> Insertion:
    """To ``size`` cells between the same ends: inserted knots, or else the best fit.

    Knots are inserted where ``size`` is a multiple of the grid's: then every function
    stays what it was on the grid. Else it is the nearest in the least-squares sense, and
    ``error`` says how near. Cells that are not alike are split or merged in their order.

    Args:
        coefficients: in use, ``(out_features, in_features, n_basis)``.
    Raises: ValueError if ``size`` is below 1.
    """
    if size < 1:
        raise ValueError(f"grid_size must be 1 or more, got {size}")
    degree, old = grid.degree, grid.exact_knots().double()
    inner = old[:, degree : degree + grid.size + 1]
    place = torch.arange(size + 1, device=old.device).double() * grid.size / size
    left = place.long().clamp(max=grid.size - 1)
    inner = inner[:, left] + (place - left) * inner.diff(dim=1)[:, left]
    knots = uniform_knots(inner[:, 0], inner[:, -1], size, degree)
    if not grid.uniform:
        knots[:, degree : degree + size + 1] = inner
        knots = knots.to(grid.knots.dtype).double()
    # What lies beyond the ends is no matter here, but for where a line starts.
    outside: Outside = "clamp" if grid.outside == "zero" else grid.outside
    if size % grid.size == 0:
        return Insertion(knots, insertion_matrix(old, knots, degree, outside))
    pair = (Grid(k, degree, outside, uniform=grid.uniform) for k in (old, knots))
    fit = _fit(old.new_empty(0, len(old)), *pair)
    error = float(fit.relative_change(coefficients).max())
    return Insertion(knots, fit.matrix, error)


def _fit(x: Tensor, old: Grid, new: Grid) -> Refit:
    """From one grid to another, over samples and, equally, the whole new grid."""
    n_even = 16 * max(old.size, new.size)
    share = torch.linspace(0, 1, n_even, device=x.device).to(x.dtype)
    low, high = new.low.double(), new.high.double()
    even = low + share.unsqueeze(1) * (high - low)  # (n_even, in_features)
    weights = [torch.full_like(p[:, 0], 1 / max(1, len(p))) for p in (x, even)]
    old = Grid(old.knots, old.degree, old.outside)  # an anchor is no matter here
    return refit(old.basis, new.basis, torch.cat([x, even]), torch.cat(weights))


def _solve(gram: Tensor, right: Tensor) -> Tensor:
    """Solve the normal equations ``gram @ solution = right`` of every feature."""
    diagonal = gram.diagonal(dim1=1, dim2=2)
    ridge = RIDGE * diagonal.mean(1).clamp(min=torch.finfo(gram.dtype).tiny)
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    factor = torch.linalg.cholesky(gram + ridge.view(-1, 1, 1) * eye)
    return torch.cholesky_solve(right, factor)
