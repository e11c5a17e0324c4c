"""Spline sums as one matrix product over all bases, in closed form: the dense path."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kancl.splines.uniform import UniformGrid, uniform_basis


def grid_basis(x: Tensor, grid: UniformGrid) -> Tensor:
    """All bases of a uniform grid at ``x``, less their values at its anchor.

    At the anchor itself they are exactly 0.

    Shape: ``(batch, in_features)`` -> ``(batch, in_features, n_basis)``.
    """
    options = grid.low, grid.high, grid.size, grid.degree, grid.outside
    basis = uniform_basis(x, *options)
    if grid.anchor is None:
        return basis
    anchor = grid.anchor.to(x.dtype)
    return anchored_basis(
        basis, uniform_basis(anchor.unsqueeze(0), *options), x == anchor
    )


def anchored_basis(basis: Tensor, at_anchor: Tensor, is_anchor: Tensor) -> Tensor:
    """``basis - at_anchor``, exactly 0 where the input is the anchor.

    Not left to the subtraction: rounding may differ between batch sizes.

    Shape: ``(batch, in_features, n_basis)``, ``(1, in_features, n_basis)``, ``(batch,
        in_features)`` -> as ``basis``.
    """
    basis = basis - at_anchor
    return torch.where(is_anchor.unsqueeze(-1), _without_value(basis), basis)


def dense_spline_sum(
    x: Tensor, coefficients: Tensor, scale: Tensor | None, grid: UniformGrid
) -> Tensor:
    """``y_o = sum_i scale_io sum_g coefficients_igo B_g(x_i)``.

    Shape: x ``(batch, in_features)``, coefficients ``(in_features, n_basis,
        out_features)``, scale ``(in_features, out_features)`` -> ``(batch,
        out_features)``.
    """
    if scale is not None:
        coefficients = coefficients * scale.unsqueeze(1)
    if _are_lines(x, grid):
        assert grid.anchor is not None
        width = grid.high.double() - grid.low
        rise = (x.double() - grid.anchor) / width  # exactly 0 at the anchor
        return rise.to(coefficients.dtype) @ (coefficients[:, 1] - coefficients[:, 0])
    basis = grid_basis(x, grid).to(coefficients.dtype)
    return basis.flatten(1) @ coefficients.flatten(0, 1)


def dense_gradients(
    x: Tensor,
    coefficients: Tensor,
    scale: Tensor | None,
    grid: UniformGrid,
    grad: Tensor,
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of ``dense_spline_sum`` that can be differentiated again.

    For the backward of paths whose kernels can't be.

    Args:
        grad: by the outputs.
        needed: which of ``x``, ``coefficients`` and ``scale`` want theirs.
    """
    inputs = [x, coefficients, scale]
    wanted = [t for t, need in zip(inputs, needed) if need and t is not None]
    y = dense_spline_sum(x, coefficients, scale, grid)
    found = iter(torch.autograd.grad(y, wanted, grad, create_graph=True))
    return [next(found) if need else None for need in needed]


def _are_lines(x: Tensor, grid: UniformGrid) -> bool:
    """Whether every spline is a line through 0 at its anchor: half the product to take.

    One cell of degree 1, whose anchored bases are each other's negative, and no value
    off the grid; not asked on a GPU, to wait, nor where ``x`` wants a gradient.
    """
    return (
        grid.size == grid.degree == 1
        and grid.anchor is not None
        and x.device.type == "cpu"
        and not x.requires_grad
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and bool(((x >= grid.low) & (x <= grid.high)).all())
    )


def _without_value(basis: Tensor) -> Tensor:
    """Exactly 0, with the derivatives of ``basis``."""
    return basis - basis.detach()
