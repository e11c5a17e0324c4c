"""Sums of splines on uniform grids: one dense product, or kernels for live bases only.

At a point ``degree + 1`` bases are not 0. The dense path multiplies all of them in one
matrix product and can be differentiated, traced and transformed as often as wanted. The
kernels (``cpu.py``, ``gpu.py``) read the live ones' coefficients alone.
"""

from functools import partial
from types import ModuleType
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd import Function

from kancl.splines import cpu, gpu, modes
from kancl.splines.flops import basis_flops, counted
from kancl.splines.uniform import UniformGrid, grid_basis

Implementation = Literal["auto", "reference", "dense", "sparse", "triton"]
KERNELS: dict[str, ModuleType] = {"sparse": cpu, "triton": gpu}


def check_implementation(implementation: str, grid_size: int, degree: int) -> None:
    """Raises: ValueError if there is none of that name, or it can't do such splines."""
    if implementation not in get_args(Implementation):
        raise ValueError(
            f"implementation must be one of {get_args(Implementation)}, "
            f"got {implementation!r}"
        )
    kernels = KERNELS.get(implementation)
    if kernels and (obstacle := kernels.why_not(grid_size, degree)):
        raise ValueError(
            f"implementation={implementation!r} is not possible: {obstacle}; 'auto' "
            f"takes what is"
        )


def spline_sum(
    x: Tensor,
    coefficients: Tensor,
    scale: Tensor | None,
    base_weight: Tensor | None,
    grid: UniformGrid,
    implementation: str,
) -> tuple[Tensor, bool]:
    """``y_o = sum_i scale_io sum_g coefficients_igo B_g(x_i)``, by the way chosen.

    Returns: the sums, and whether ``silu(x) @ base_weight.T`` is among them: where one
        kernel can do both.

    Where kernels can't follow (a graph that is compiled, function transforms, counters of
    FLOPs, an empty batch; on a CPU autocast and half precision) all go the dense way.

    Shape: see ``Grid.sum``.
    Raises: ValueError if the tensors are on a device of another implementation.
    """
    if torch.compiler.is_compiling():
        return dense_spline_sum(x, coefficients, scale, grid), False
    if implementation == "auto":
        implementation = fastest(x.device.type, grid)
    if implementation == "sparse" and x.device.type not in ("cpu", "meta"):
        raise ValueError(
            f"implementation='sparse' runs on a CPU, the inputs are on {x.device}: "
            f"choose 'auto'"
        )
    kernels = KERNELS.get(implementation)
    watched = modes.transforms() or modes.dispatch_modes()
    if kernels and modes.readable(x, coefficients) and not watched:
        if kernels is gpu:
            if torch.is_autocast_enabled(x.device.type):  # has a type for products
                base_weight = None
            y = _kernel_sum(gpu, x, coefficients, scale, grid, base_weight)
            return y, base_weight is not None
        if cpu.takes(x, coefficients):
            return _kernel_sum(cpu, x, coefficients, scale, grid), False
    return dense_spline_sum(x, coefficients, scale, grid), False


def fastest(device: str, grid: UniformGrid) -> str:
    """The fastest that is possible, as far as measured."""
    implementation = {"cpu": "sparse", "cuda": "triton"}.get(device, "dense")
    kernels = KERNELS.get(implementation)
    if not kernels or grid.size + grid.degree < kernels.FEWEST_BASES_IN_AUTO:
        return "dense"
    return "dense" if kernels.why_not(grid.size, grid.degree) else implementation


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
    basis = counted(grid_basis(x, grid), basis_flops(grid.degree))
    basis = basis.to(coefficients.dtype)  # (batch, in_features, n_basis)
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
        and not modes.transforms()
        and not modes.dispatch_modes()
        and bool(((x >= grid.low) & (x <= grid.high)).all())
    )


def _kernel_sum(
    kernels: ModuleType,
    x: Tensor,
    coefficients: Tensor,
    scale: Tensor | None,
    grid: UniformGrid,
    base_weight: Tensor | None = None,
) -> Tensor:
    splines = coefficients, scale, base_weight
    y: Tensor = _KernelSum.apply(x, *splines, grid, kernels)
    return y


# Deterministic, both. On a GPU values and sums are float64 if the coefficients are, else
# float32, whatever the type of ``x`` and autocast.
sparse_spline_sum = partial(_kernel_sum, cpu)
fused_spline_sum = partial(_kernel_sum, gpu)


class _KernelSum(Function):
    """A sum by kernels. Backward keeps ``x`` and evaluates again."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        coefficients: Tensor,
        scale: Tensor | None,
        base_weight: Tensor | None,
        grid: UniformGrid,
        kernels: ModuleType,
    ) -> Tensor:
        ctx.save_for_backward(x, coefficients, scale, base_weight)
        ctx.grid, ctx.kernels = grid, kernels
        ctx.samples = kernels.prepare(x, grid)
        y: Tensor = kernels.spline_sum(ctx.samples, coefficients, scale, base_weight)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs = x, *splines = ctx.saved_tensors
        needed = ctx.needs_input_grad[:4]
        if torch.is_grad_enabled():  # someone wants to differentiate again: dense
            y = dense_spline_sum(x, splines[0], splines[1], ctx.grid)
            if splines[2] is not None:
                y = y + torch.nn.functional.silu(x).to(y.dtype) @ splines[2].T
            of = [tensor for tensor, need in zip(inputs, needed) if need]
            dense = iter(torch.autograd.grad(y, of, grad, create_graph=True))
            return *(next(dense) if need else None for need in needed), None, None
        grad_x, of_splines = None, (None, None, None)
        if needed[0]:
            grad_x = ctx.kernels.input_gradient(ctx.samples, *splines, grad)
        if any(needed[1:]):
            of_splines = ctx.kernels.coefficient_gradient(ctx.samples, *splines, grad)
        return grad_x, *of_splines, None, None
