"""The fused path as an operation of autograd."""

import importlib
import math
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import Parameter

from kancl.splines.dense import dense_gradients
from kancl.splines.uniform import UniformGrid

HIGHEST_DEGREE = 3
# Bases per edge from which on `auto` takes this path on a GPU in place of the dense
# one. To be set by `kancl bench device`; inf: not measured yet, so never.
FEWEST_BASES_IN_AUTO = math.inf

BLOCK_B, BLOCK_G = 32, 16  # samples, and bases, that a program works on together
BLOCKS_O = 16, 32, 64  # outputs; a product of matrices starts from 16
GATHERED = 32  # outputs at most where rows are gathered: with 64 registers spill
PROGRAMS = 512  # that forward is split into, a few for each multiprocessor
FEWEST_INPUTS = 8  # per program, as far as possible


def why_not_fused(degree: int) -> str | None:
    """What keeps splines of this kind, or this machine, from the fused path."""
    if degree > HIGHEST_DEGREE:
        return f"degree is {degree}, the fused path takes 1 to {HIGHEST_DEGREE}"
    if _kernels() is None:
        return "Triton is missing (it comes with torch's builds for CUDA on Linux)"
    return None


def takes_fused(x: Tensor, coefficients: Tensor) -> bool:
    """Whether these are ordinary tensors, that a kernel can read.

    Tracing and function transforms are for the dense path.
    """
    return (
        type(x) in (Tensor, Parameter)
        and type(coefficients) in (Tensor, Parameter)
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
    )


def fused_spline_sum(
    x: Tensor, coefficients: Tensor, scale: Tensor | None, grid: UniformGrid
) -> Tensor:
    """``y_o = sum_i scale_io sum_g coefficients_igo B_g(x_i)``, one kernel per pass.

    Values and sums are float64 if the coefficients are, else float32, whatever the type
    of ``x`` and autocast. Deterministic. Backward keeps ``x`` and evaluates again. A
    second derivative goes the dense way.

    Shape: x ``(batch, in_features)``, coefficients ``(in_features, n_basis,
        out_features)``, scale ``(in_features, out_features)`` -> ``(batch,
        out_features)``.
    Raises: ValueError if the tensors are not on one CUDA device, Triton's interpreter
        aside.
    """
    devices = {t.device for t in (x, coefficients, scale) if t is not None}
    if len(devices) > 1 or not (x.is_cuda or _kernels().INTERPRETED):
        raise ValueError(
            f"implementation='triton' needs all tensors on one CUDA device, got "
            f"{', '.join(sorted(map(str, devices)))}: move model and data there, or "
            f"choose 'auto' (TRITON_INTERPRET=1 runs the kernels slowly on a CPU)"
        )
    y: Tensor = _FusedSplineSum.apply(x, coefficients, scale, grid)
    return y


class _FusedSplineSum(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        coefficients: Tensor,
        scale: Tensor | None,
        grid: UniformGrid,
    ) -> Tensor:
        ctx.save_for_backward(x, coefficients, scale)
        ctx.grid = grid
        x, coefficients = x.contiguous(), coefficients.contiguous()
        batch, n_in = x.shape
        n_out = coefficients.shape[2]
        low, cells, anchor = _constants(grid, x.dtype)
        block = _block(n_out, GATHERED)
        n_blocks = _blocks(batch, BLOCK_B), _blocks(n_out, block)
        n_parts = min(PROGRAMS // max(1, math.prod(n_blocks)), n_in // FEWEST_INPUTS)
        per_part = _blocks(n_in, max(1, n_parts))
        n_parts = _blocks(n_in, per_part)
        kind = coefficients.dtype if n_parts == 1 else _kind(coefficients)
        sums = x.new_empty(n_parts, batch, n_out, dtype=kind)
        _run(
            "spline_sum",
            (*n_blocks, n_parts),
            (x, low, cells, low if anchor is None else anchor),
            (coefficients, _or(scale, coefficients), sums),
            (batch, n_in, n_out, per_part),
            **_options(grid, coefficients, scale, block),
            ANCHORED=anchor is not None,
        )
        # A sum of torch's over rows is deterministic, too.
        return sums[0] if n_parts == 1 else sums.sum(0).to(coefficients.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, coefficients, scale = ctx.saved_tensors
        inputs = x, coefficients, scale
        needed = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():  # someone wants to differentiate again
            return *dense_gradients(*inputs, ctx.grid, grad, needed), None
        grad = grad.contiguous()
        of_x = of_coefficients = of_scale = None
        if needed[0]:
            of_x = _of_x(*inputs, ctx.grid, grad)
        if needed[1] or needed[2]:
            of_coefficients, of_scale = _of_coefficients(*inputs, ctx.grid, grad)
        return of_x, of_coefficients, of_scale, None


def _of_x(
    x: Tensor,
    coefficients: Tensor,
    scale: Tensor | None,
    grid: UniformGrid,
    grad: Tensor,
) -> Tensor:
    x, coefficients = x.contiguous(), coefficients.contiguous()
    (batch, n_in), n_out = x.shape, coefficients.shape[2]
    low, cells, _ = _constants(grid, x.dtype)
    of_x = torch.empty_like(x)
    _run(
        "input_gradient",
        (_blocks(batch, BLOCK_B), n_in),
        (x, low, cells),
        (coefficients, _or(scale, coefficients), grad, of_x),
        (batch, n_in, n_out),
        **_options(grid, coefficients, scale, _block(n_out, GATHERED)),
    )
    return of_x


def _of_coefficients(
    x: Tensor,
    coefficients: Tensor,
    scale: Tensor | None,
    grid: UniformGrid,
    grad: Tensor,
) -> tuple[Tensor, Tensor | None]:
    x, coefficients = x.contiguous(), coefficients.contiguous()
    n_in, n_basis, n_out = coefficients.shape
    low, cells, anchor = _constants(grid, x.dtype)
    block, n_blocks = _block(n_out, BLOCKS_O[-1]), _blocks(n_basis, BLOCK_G)
    of_coefficients = torch.empty_like(coefficients)
    of_scale = None
    if scale is not None:
        of_scale = x.new_empty(n_blocks, n_in, n_out, dtype=_kind(coefficients))
    _run(
        "coefficient_gradient",
        (n_in, _blocks(n_out, block), n_blocks),
        (x, low, cells, low if anchor is None else anchor),
        (coefficients, _or(scale, coefficients), grad),
        (of_coefficients, _or(of_scale, coefficients)),
        (len(x), n_in, n_out),
        **_options(grid, coefficients, scale, block),
        ANCHORED=anchor is not None,
        BLOCK_G=BLOCK_G,
    )
    if scale is not None and of_scale is not None:
        of_scale = of_scale[0] if n_blocks == 1 else of_scale.sum(0)
        of_scale = of_scale.to(scale.dtype)
    return of_coefficients, of_scale


def _run(
    name: str, programs: tuple[int, ...], *arguments: tuple[Any, ...], **options: Any
) -> None:
    """Start a kernel on the device that its tensors are on."""
    if math.prod(programs) == 0:
        return
    flat = [argument for some in arguments for argument in some]
    with torch.cuda.device_of(flat[0]):
        getattr(_kernels(), name)[programs](*flat, **options)


def _options(
    grid: UniformGrid, coefficients: Tensor, scale: Tensor | None, block: int
) -> dict[str, Any]:
    language = _kernels().tl
    double = coefficients.dtype == torch.float64
    return dict(
        SIZE=grid.size,
        DEGREE=grid.degree,
        OUTSIDE=grid.outside,
        SCALED=scale is not None,
        KIND=language.float64 if double else language.float32,
        BLOCK_B=BLOCK_B,
        BLOCK_O=block,
        enable_fp_fusion=True,
    )


@cache
def _kernels() -> Any:
    """The module of kernels; ``None`` without Triton."""
    try:
        return importlib.import_module("kancl.splines.fused.kernels")
    except ImportError:
        return None


def _constants(
    grid: UniformGrid, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor | None]:
    """``low``, ``cells`` and ``anchor`` in float64, worked out once for each grid.

    The anchor is rounded as ``x`` is, since the two are compared.
    """
    known: dict[torch.dtype, Any] = grid.__dict__.setdefault("_fused_constants", {})
    if dtype not in known:
        low = grid.low.double().contiguous()
        cells = (grid.size / (grid.high.double() - low)).contiguous()
        anchor = grid.anchor
        if anchor is not None:
            anchor = anchor.to(dtype).double().contiguous()
        known[dtype] = low, cells, anchor
    found: tuple[Tensor, Tensor, Tensor | None] = known[dtype]
    return found


def _kind(coefficients: Tensor) -> torch.dtype:
    """Of values and sums."""
    return torch.promote_types(coefficients.dtype, torch.float32)


def _or(tensor: Tensor | None, other: Tensor) -> Tensor:
    """For an argument that is not read if there is no tensor."""
    return other if tensor is None else tensor.contiguous()


def _block(n_out: int, largest: int) -> int:
    return next((b for b in BLOCKS_O if b >= min(n_out, largest)), largest)


def _blocks(n: int, size: int) -> int:
    return -(-n // size)
