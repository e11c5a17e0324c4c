"""Sums of splines on uniform grids: one dense product, or kernels for live bases only.

At a point ``degree + 1`` bases are not 0. The dense path multiplies all of them in one
matrix product and can be differentiated, traced and transformed as often as wanted. The
kernels (``cpu.py``, ``gpu.py``) read the live ones' coefficients alone, whatever the
grid size.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import Parameter

from kancl.splines import cpu, gpu
from kancl.splines.uniform import UniformGrid, grid_basis

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
        obstacle = cpu.why_not_sparse(grid_size, degree)
    elif implementation == "triton":
        obstacle = gpu.why_not_fused(degree)
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

    Where kernels can't follow (tracing, function transforms, an empty batch; on a CPU
    autocast and half precision) all go the dense way.

    Shape: x ``(batch, in_features)``, coefficients ``(in_features, n_basis,
        out_features)``, scale ``(in_features, out_features)`` -> ``(batch,
        out_features)``.
    Raises: ValueError if the tensors are on a device of another implementation.
    """
    if torch.compiler.is_compiling():
        return dense_spline_sum(x, coefficients, scale, grid)
    if implementation == "auto":
        implementation = _fastest(x, coefficients, grid)
    if implementation == "sparse" and x.device.type != "cpu":
        raise ValueError(
            f"implementation='sparse' runs on a CPU, the inputs are on {x.device}: "
            f"choose 'auto'"
        )
    if implementation in ("sparse", "triton") and _are_ordinary(x, coefficients):
        if implementation == "triton":
            return fused_spline_sum(x, coefficients, scale, grid)
        if cpu.takes(x, coefficients):
            return sparse_spline_sum(x, coefficients, scale, grid)
    return dense_spline_sum(x, coefficients, scale, grid)


def _fastest(x: Tensor, coefficients: Tensor, grid: UniformGrid) -> Implementation:
    """The fastest that is possible, as far as measured."""
    n_basis = coefficients.shape[1]
    if x.device.type == "cpu":
        if n_basis >= cpu.FEWEST_BASES_IN_AUTO:
            if cpu.why_not_sparse(grid.size, grid.degree) is None:
                return "sparse"
    elif x.is_cuda and n_basis >= gpu.FEWEST_BASES_IN_AUTO:
        if gpu.why_not_fused(grid.degree) is None:
            return "triton"
    return "dense"


def _are_ordinary(x: Tensor, coefficients: Tensor) -> bool:
    """Whether kernels can read these tensors."""
    return (
        type(x) in (Tensor, Parameter)
        and type(coefficients) in (Tensor, Parameter)
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
    )


def dense_spline_sum(
    x: Tensor, coefficients: Tensor, scale: Tensor | None, grid: UniformGrid
) -> Tensor:
    """``spline_sum`` as one matrix product over all bases, in closed form."""
    if scale is not None:
        coefficients = coefficients * scale.unsqueeze(1)
    if _are_lines(x, grid):
        assert grid.anchor is not None
        width = grid.high.double() - grid.low
        rise = (x.double() - grid.anchor) / width  # exactly 0 at the anchor
        return rise.to(coefficients.dtype) @ (coefficients[:, 1] - coefficients[:, 0])
    basis = grid_basis(x, grid).to(coefficients.dtype)  # (batch, in_features, n_basis)
    return basis.flatten(1) @ coefficients.flatten(0, 1)


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


def sparse_spline_sum(
    x: Tensor, coefficients: Tensor, scale: Tensor | None, grid: UniformGrid
) -> Tensor:
    """``spline_sum`` by the CPU's kernels."""
    y: Tensor = _KernelSum.apply(x, coefficients, scale, grid, cpu)
    return y


def fused_spline_sum(
    x: Tensor, coefficients: Tensor, scale: Tensor | None, grid: UniformGrid
) -> Tensor:
    """``spline_sum`` by the GPU's kernels, one per pass; deterministic.

    Values and sums are float64 if the coefficients are, else float32, whatever the type
    of ``x`` and autocast.

    Raises: ValueError if the tensors are not on one CUDA device, Triton's interpreter
        aside.
    """
    gpu.check_devices(x, coefficients, scale)
    y: Tensor = _KernelSum.apply(x, coefficients, scale, grid, gpu)
    return y


class _KernelSum(Function):
    """A sum by kernels. Backward keeps ``x`` and evaluates again.

    A second derivative goes the dense way.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        coefficients: Tensor,
        scale: Tensor | None,
        grid: UniformGrid,
        kernels: ModuleType,
    ) -> Tensor:
        ctx.save_for_backward(x, coefficients, scale)
        ctx.grid, ctx.kernels = grid, kernels
        ctx.samples = kernels.prepare(x, grid)
        y: Tensor = kernels.spline_sum(ctx.samples, coefficients, scale)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *splines = ctx.saved_tensors
        needed = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():  # someone wants to differentiate again
            return *_dense_gradients([x, *splines], ctx.grid, grad, needed), None, None
        grad_x = grad_coefficients = grad_scale = None
        if needed[0]:
            grad_x = ctx.kernels.input_gradient(ctx.samples, *splines, grad)
        if needed[1] or needed[2]:
            grad_coefficients, grad_scale = ctx.kernels.coefficient_gradient(
                ctx.samples, *splines, grad
            )
        return grad_x, grad_coefficients, grad_scale, None, None


def _dense_gradients(
    inputs: list[Any], grid: UniformGrid, grad: Tensor, needed: Sequence[bool]
) -> list[Tensor | None]:
    """Gradients by ``x``, coefficients and scale that can be differentiated again."""
    wanted = [t for t, need in zip(inputs, needed) if need and t is not None]
    x, coefficients, scale = inputs
    y = dense_spline_sum(x, coefficients, scale, grid)
    gradients = iter(torch.autograd.grad(y, wanted, grad, create_graph=True))
    return [next(gradients) if need else None for need in needed]
