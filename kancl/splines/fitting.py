"""Least-squares coefficients: of a curve, and of an old spline on new knots.

By normal equations with a tiny ridge, in float64: well defined where a basis saw no
sample, and right on CUDA, where ``torch.linalg.lstsq`` fails for rank-deficient input
(pytorch #117122).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

RIDGE = 1e-10  # of the mean diagonal


def fit_coefficients(basis: Tensor, y: Tensor) -> Tensor:
    """Coefficients of the curve through (or nearest to) the points ``y``.

    Where the points leave them open, those of least norm.

    Shape: ``(in_features, n, n_basis)``, ``(in_features, n, out)`` ->
        ``(in_features, n_basis, out)``.
    """
    basis_, y_ = basis.double(), y.double()
    gram = basis_.transpose(1, 2) @ basis_
    return _solve(gram, basis_.transpose(1, 2) @ y_).to(y.dtype)


@dataclass(frozen=True)
class Refit:
    """The linear map from old coefficients to those that keep the function best.

    It does not depend on the coefficients, hence serves all outputs of a feature at
    once, scaled or not.

    Args:
        matrix: of the map, ``(in_features, n_new, n_old)``.
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
        change, size = (
            torch.einsum("oim,imn,oin->i", c, form, c)
            for form in (self.residual, self.size)
        )
        return (change.clamp(min=0) / size.clamp(min=1e-300)).sqrt()


def refit(
    old_basis: Callable[[Tensor], Tensor],
    new_basis: Callable[[Tensor], Tensor],
    points: Tensor,
    weights: Tensor,
    chunk_size: int = 1024,
) -> Refit:
    """Refit splines to new knots: ``R = (sum w N N^T)^-1 sum w N O^T`` over points.

    ``N`` and ``O`` are the new and the old bases there.

    Args:
        old_basis, new_basis: ``(n, in_features)`` -> ``(n, in_features, n_basis)``.
        points: where the function is to be kept, ``(n, in_features)``.
        weights: of the points, ``(n,)``.
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


def _solve(gram: Tensor, right: Tensor) -> Tensor:
    """Solve the normal equations ``gram @ solution = right`` of every feature."""
    diagonal = gram.diagonal(dim1=1, dim2=2)
    ridge = RIDGE * diagonal.mean(1).clamp(min=torch.finfo(gram.dtype).tiny)
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    factor = torch.linalg.cholesky(gram + ridge.view(-1, 1, 1) * eye)
    return torch.cholesky_solve(right, factor)
