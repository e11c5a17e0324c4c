"""The kernels of ``kernels_gpu.py`` called with tensors."""

import importlib
import math
from functools import cache
from typing import Any

import torch
from torch import Tensor

from kancl.splines.uniform import UniformGrid

Samples = tuple[Tensor, UniformGrid]

HIGHEST_DEGREE = 3
# Bases per edge from which on `auto` takes this path on a GPU in place of the dense
# one. To be set by `kancl bench device`; inf: not measured yet, so never.
FEWEST_BASES_IN_AUTO = math.inf

BLOCK_B, BLOCK_G = 32, 16  # samples, and bases, that a program works on together
BLOCKS_O = 16, 32, 64  # outputs; a product of matrices starts from 16
GATHERED = 32  # outputs at most where rows are gathered: with 64 registers spill
PROGRAMS = 512  # that forward is split into, a few for each multiprocessor
FEWEST_INPUTS = 8  # per program, as far as possible


def why_not(grid_size: int, degree: int) -> str | None:
    """What keeps splines of this kind, or this machine, from the fused path."""
    if degree > HIGHEST_DEGREE:
        return f"degree is {degree}, the fused path takes 1 to {HIGHEST_DEGREE}"
    if _kernels() is None:
        return "Triton is missing (it comes with torch's builds for CUDA on Linux)"
    return None


def prepare(x: Tensor, grid: UniformGrid) -> Samples:
    """The samples in order, and the grid."""
    return x.contiguous(), grid


def spline_sum(samples: Samples, coefficients: Tensor, scale: Tensor | None) -> Tensor:
    """Raises: ValueError if a kernel can't read the tensors where they are."""
    x = samples[0]
    devices = {t.device for t in (x, coefficients, scale) if t is not None}
    if len(devices) > 1 or not (x.is_cuda or _kernels().INTERPRETED):
        raise ValueError(
            f"implementation='triton' needs all tensors on one CUDA device, got "
            f"{', '.join(sorted(map(str, devices)))}: move model and data there, or "
            f"choose 'auto' (TRITON_INTERPRET=1 runs the kernels slowly on a CPU)"
        )
    (batch, n_in), n_out = x.shape, coefficients.shape[2]
    block = _block(n_out, GATHERED)
    n_blocks = _blocks(batch, BLOCK_B), _blocks(n_out, block)
    n_parts = min(PROGRAMS // max(1, math.prod(n_blocks)), n_in // FEWEST_INPUTS)
    per_part = _blocks(n_in, max(1, n_parts))
    n_parts = _blocks(n_in, per_part)
    dtype = coefficients.dtype if n_parts == 1 else _sum_dtype(coefficients)
    sums = x.new_empty(n_parts, batch, n_out, dtype=dtype)
    sizes = batch, n_in, n_out, per_part
    programs = *n_blocks, n_parts
    _run("spline_sum", programs, samples, coefficients, scale, block, sums, *sizes)
    # A sum of torch's over rows is deterministic, too.
    return sums[0] if n_parts == 1 else sums.sum(0).to(coefficients.dtype)


def input_gradient(
    samples: Samples, coefficients: Tensor, scale: Tensor | None, grad: Tensor
) -> Tensor:
    x, n_out = samples[0], coefficients.shape[2]
    grad_x = torch.empty_like(x)
    programs = _blocks(len(x), BLOCK_B), x.shape[1]
    rest = _block(n_out, GATHERED), grad.contiguous(), grad_x, *x.shape, n_out
    _run("input_gradient", programs, samples, coefficients, scale, *rest)
    return grad_x


def coefficient_gradient(
    samples: Samples, coefficients: Tensor, scale: Tensor | None, grad: Tensor
) -> tuple[Tensor, Tensor | None]:
    """The gradients by the coefficients and by the scale."""
    x = samples[0]
    n_in, n_basis, n_out = coefficients.shape
    block, n_blocks = _block(n_out, BLOCKS_O[-1]), _blocks(n_basis, BLOCK_G)
    grads = torch.empty_like(coefficients, memory_format=torch.contiguous_format)
    sums = grads  # not written if there is no scale
    if scale is not None:
        sums = x.new_empty(n_blocks, n_in, n_out, dtype=_sum_dtype(coefficients))
    programs = n_in, _blocks(n_out, block), n_blocks
    rest = block, grad.contiguous(), grads, sums, *x.shape, n_out
    _run(
        *("coefficient_gradient", programs, samples, coefficients, scale, *rest),
        BLOCK_G=BLOCK_G,
    )
    if scale is None:
        return grads, None
    return grads, (sums[0] if n_blocks == 1 else sums.sum(0)).to(scale.dtype)


def _run(
    name: str,
    programs: tuple[int, ...],
    samples: Samples,
    coefficients: Tensor,
    scale: Tensor | None,
    block: int,
    *arguments: Any,
    **options: Any,
) -> None:
    """Start a kernel on the device that its tensors are on."""
    if math.prod(programs) == 0:
        return
    x, grid = samples
    language = _kernels().tl
    double = coefficients.dtype == torch.float64
    kind = language.float64 if double else language.float32
    coefficients = coefficients.contiguous()
    with torch.cuda.device_of(x):
        getattr(_kernels(), name)[programs](
            *(x, *_constants(grid, x.dtype), coefficients),
            coefficients if scale is None else scale.contiguous(),
            *arguments,
            GRID=(grid.size, grid.degree, grid.outside, kind),
            ANCHORED=grid.anchor is not None,
            SCALED=scale is not None,
            BLOCK_B=BLOCK_B,
            BLOCK_O=block,
            enable_fp_fusion=True,
            **options,
        )


@cache
def _kernels() -> Any:
    """The module of kernels; ``None`` without Triton."""
    try:
        return importlib.import_module("kancl.splines.kernels_gpu")
    except ImportError:
        return None


def _constants(grid: UniformGrid, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """``low``, ``cells`` and ``anchor`` in float64, worked out once for each grid.

    The anchor is rounded as ``x`` is, since the two are compared; ``low`` stands for
    one that is not read.
    """
    if dtype not in grid.constants:
        low = grid.low.double().contiguous()
        cells = (grid.size / (grid.high.double() - low)).contiguous()
        anchor = low
        if grid.anchor is not None:
            anchor = grid.anchor.to(dtype).double().contiguous()
        grid.constants[dtype] = low, cells, anchor
    constants: tuple[Tensor, Tensor, Tensor] = grid.constants[dtype]
    return constants


def _sum_dtype(coefficients: Tensor) -> torch.dtype:
    return torch.promote_types(coefficients.dtype, torch.float32)


def _block(n_out: int, largest: int) -> int:
    return next((b for b in BLOCKS_O if b >= min(n_out, largest)), largest)


def _blocks(n: int, size: int) -> int:
    return -(-n // size)
