"""Which way to sum splines on uniform grids: dense, sparse or fused."""

from typing import Literal, get_args

import torch
from torch import Tensor

from kancl.splines import fused, sparse
from kancl.splines.dense import dense_spline_sum
from kancl.splines.uniform import UniformGrid

Implementation = Literal["auto", "reference", "dense", "sparse", "triton"]


def check_implementation(implementation: str, grid_size: int, degree: int) -> None:
    """Raises: ValueError if there is none of that name, or it can't do such splines."""
    if implementation not in get_args(Implementation):
        raise ValueError(
            f"implementation must be one of {get_args(Implementation)}, "
            f"got {implementation!r}"
        )
    obstacle = None
    if implementation == "sparse":
        obstacle = sparse.why_not_sparse(grid_size, degree)
    elif implementation == "triton":
        obstacle = fused.why_not_fused(degree)
    if obstacle:
        raise ValueError(
            f"implementation={implementation!r} is not possible: {obstacle}; 'auto' "
            f"takes what is"
        )


def spline_sum(
    x: Tensor,
    coefficients: Tensor,
    scale: Tensor | None,
    grid: UniformGrid,
    implementation: Implementation,
) -> Tensor:
    """``y_o = sum_i scale_io sum_g coefficients_igo B_g(x_i)``, by the way chosen.

    Where kernels can't follow (tracing, function transforms, autocast, half precision)
    all go the dense way.

    Shape: x ``(batch, in_features)``, coefficients ``(in_features, n_basis,
        out_features)``, scale ``(in_features, out_features)`` -> ``(batch,
        out_features)``.
    Raises: ValueError if the tensors are on a device of another implementation.
    """
    if torch.compiler.is_compiling():
        return dense_spline_sum(x, coefficients, scale, grid)
    if implementation == "auto":
        implementation = _fastest(x, coefficients, grid)
    if implementation == "triton" and fused.takes_fused(x, coefficients):
        return fused.fused_spline_sum(x, coefficients, scale, grid)
    if implementation == "sparse" and sparse.takes_sparse(x, coefficients):
        return sparse.sparse_spline_sum(x, coefficients, scale, grid)
    if implementation == "sparse" and x.device.type != "cpu":
        raise ValueError(
            f"implementation='sparse' runs on a CPU, the inputs are on {x.device}: "
            f"choose 'auto'"
        )
    return dense_spline_sum(x, coefficients, scale, grid)


def _fastest(x: Tensor, coefficients: Tensor, grid: UniformGrid) -> Implementation:
    n_basis = coefficients.shape[1]
    if x.device.type == "cpu":
        if n_basis >= sparse.FEWEST_BASES_IN_AUTO:
            if sparse.why_not_sparse(grid.size, grid.degree) is None:
                return "sparse"
    elif x.is_cuda and n_basis >= fused.FEWEST_BASES_IN_AUTO:
        if fused.why_not_fused(grid.degree) is None:
            return "triton"
    return "dense"
