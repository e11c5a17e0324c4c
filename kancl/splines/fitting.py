"""Least-squares coefficients: of a curve, and of an old spline on new knots.

By normal equations with a tiny ridge, in float64: well defined where a basis saw no
sample, and right on CUDA, where ``torch.linalg.lstsq`` fails for rank-deficient input
(pytorch #117122).
"""

from collections.abc import Callable

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


def refit_matrix(
    old_basis: Callable[[Tensor], Tensor],
    new_basis: Callable[[Tensor], Tensor],
    points: Tensor,
    weights: Tensor,
    chunk_size: int = 1024,
) -> Tensor:
    """The linear map from old coefficients to those that keep the function.

    ``R = (sum w N N^T)^-1 sum w N O^T`` over the points, with ``N``, ``O`` the new
    and old bases there. It does not depend on the coefficients, hence serves all
    outputs of a feature at once, scaled or not.

    Args:
        old_basis, new_basis: ``(n, in_features)`` -> ``(n, in_features, n_basis)``.
        points: where the function is to be kept.
        weights: of the points.
        chunk_size: points evaluated at a time.
    Shape: ``(n, in_features)``, ``(n,)`` -> ``(in_features, n_new, n_old)``, float64.
    """
    gram, cross = None, None
    for x, w in zip(points.split(chunk_size), weights.split(chunk_size)):
        new = new_basis(x).transpose(0, 1)  # (in_features, n, n_new)
        old = old_basis(x).transpose(0, 1)  # (in_features, n, n_old)
        weighted = (new * w.view(-1, 1)).transpose(1, 2)
        gram = weighted @ new if gram is None else gram + weighted @ new
        cross = weighted @ old if cross is None else cross + weighted @ old
    assert gram is not None and cross is not None
    return _solve(gram, cross)


def _solve(gram: Tensor, right: Tensor) -> Tensor:
    """Solve the normal equations ``gram @ solution = right`` of every feature."""
    diagonal = gram.diagonal(dim1=1, dim2=2)
    ridge = RIDGE * diagonal.mean(1).clamp(min=torch.finfo(gram.dtype).tiny)
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    factor = torch.linalg.cholesky(gram + ridge.view(-1, 1, 1) * eye)
    return torch.cholesky_solve(right, factor)
