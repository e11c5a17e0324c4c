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
# Bases per edge from which on `auto` takes this path on a GPU: always. A training step of a
# small KAN is bound by its launches, and these kernels take a third of the dense path's.
FEWEST_BASES_IN_AUTO = 1

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


def spline_sum(
    samples: Samples,
    coefficients: Tensor,
    scale: Tensor | None,
    base_weight: Tensor | None,
) -> Tensor:
    """Raises: ValueError if a kernel can't read the tensors where they are."""
    x, splines = samples[0], (coefficients, scale, base_weight)
    devices = {t.device for t in (x, *splines) if t is not None}
    if len(devices) > 1 or not (x.is_cuda or _kernels().INTERPRETED):
        raise ValueError(
            f"implementation='triton' needs all tensors on one CUDA device, got "
            f"{', '.join(sorted(map(str, devices)))}: move model and data there, or "
            f"choose 'auto' (TRITON_INTERPRET=1 runs the kernels slowly on a CPU)"
        )
    (batch, n_in), n_out = x.shape, coefficients.shape[2]
    block = _block(n_out, GATHERED)
    n_blocks = _blocks(batch, _block_b(coefficients.dtype)), _blocks(n_out, block)
    n_parts = min(PROGRAMS // max(1, math.prod(n_blocks)), n_in // FEWEST_INPUTS)
    per_part = _blocks(n_in, max(1, n_parts))
    n_parts = _blocks(n_in, per_part)
    dtype = coefficients.dtype if n_parts == 1 else _sum_dtype(coefficients)
    sums = x.new_empty(n_parts, batch, n_out, dtype=dtype)
    sizes = batch, n_in, n_out, per_part
    programs = *n_blocks, n_parts
    _run_sum("spline_sum", programs, samples, splines, block, sums, *sizes)
    # A sum of torch's over rows is deterministic, too.
    return sums[0] if n_parts == 1 else sums.sum(0).to(coefficients.dtype)


def input_gradient(
    samples: Samples,
    coefficients: Tensor,
    scale: Tensor | None,
    base_weight: Tensor | None,
    grad: Tensor,
) -> Tensor:
    x, splines, n_out = samples[0], (coefficients, scale, base_weight), grad.shape[1]
    grad_x = torch.empty_like(x)
    programs = _blocks(len(x), _block_b(coefficients.dtype)), x.shape[1]
    rest = _block(n_out, GATHERED), grad.contiguous(), grad_x, *x.shape, n_out
    _run_sum("input_gradient", programs, samples, splines, *rest)
    return grad_x


def coefficient_gradient(
    samples: Samples,
    coefficients: Tensor,
    scale: Tensor | None,
    base_weight: Tensor | None,
    grad: Tensor,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The gradients by the coefficients, by the scale and by the base weights."""
    x, splines = samples[0], (coefficients, scale, base_weight)
    n_in, n_basis, n_out = coefficients.shape
    n_rows = n_basis + (base_weight is not None)
    block, n_blocks = _block(n_out, BLOCKS_O[-1]), _blocks(n_rows, BLOCK_G)
    grads = torch.empty_like(coefficients, memory_format=torch.contiguous_format)
    sums = of_base = grads  # not written if there is no scale, no base branch
    if scale is not None:
        sums = x.new_empty(n_blocks, n_in, n_out, dtype=_sum_dtype(coefficients))
    if base_weight is not None:
        of_base = base_weight.new_empty(base_weight.shape)
    programs = n_in, _blocks(n_out, block), n_blocks
    rest = grad.contiguous(), grads, sums, of_base, *x.shape, n_out
    name = "coefficient_gradient"
    _run_sum(name, programs, samples, splines, block, *rest, BLOCK_G=BLOCK_G)
    of_scale = None
    if scale is not None:
        of_scale = (sums[0] if n_blocks == 1 else sums.sum(0)).to(scale.dtype)
    return grads, of_scale, None if base_weight is None else of_base


def idle_bases(samples: Samples, n_basis: int, dtype: torch.dtype) -> Tensor:
    """Whether each basis is 0, in ``dtype``, at all samples: ``(in_features, n_basis)``."""
    x, n_in = samples[0], samples[0].shape[1]
    idle = x.new_empty(n_in, n_basis, dtype=torch.bool)
    programs = n_in, _blocks(n_basis, BLOCK_G)
    rest = samples, dtype, idle, *x.shape
    _run("idle_bases", programs, *rest, BLOCK_G=BLOCK_G)
    return idle


def _run_sum(
    name: str,
    programs: tuple[int, ...],
    samples: Samples,
    splines: tuple[Tensor, Tensor | None, Tensor | None],
    block: int,
    *arguments: Any,
    **options: Any,
) -> None:
    """Start a kernel that takes coefficients, scale and base weights."""
    coefficients = splines[0].contiguous()
    given = [coefficients if t is None else t.contiguous() for t in splines]
    options |= {"SCALED": splines[1] is not None, "BASED": splines[2] is not None}
    rest = samples, coefficients.dtype, *given, *arguments
    _run(name, programs, *rest, BLOCK_O=block, **options)


def _run(
    name: str,
    programs: tuple[int, ...],
    samples: Samples,
    dtype: torch.dtype,
    *arguments: Any,
    **options: Any,
) -> None:
    """Start a kernel on the device that its tensors are on.

    Args:
        dtype: of the coefficients; values are float64 if they are, else float32.
    """
    if math.prod(programs) == 0:
        return
    x, grid = samples
    language = _kernels().tl
    kind = language.float64 if dtype == torch.float64 else language.float32
    with torch.cuda.device_of(x):
        getattr(_kernels(), name)[programs](
            *(x, *_constants(grid, x.dtype), *arguments),
            GRID=(grid.size, grid.degree, grid.outside, kind),
            ANCHORED=grid.anchor is not None,
            BLOCK_B=_block_b(dtype),
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
    low, cells = grid.cells
    at = grid.anchor
    if at is None:
        return low, cells, low
    anchor: Tensor = grid.constant(
        ("anchor", dtype), lambda: at.to(dtype).double().contiguous()
    )
    return low, cells, anchor


def _sum_dtype(coefficients: Tensor) -> torch.dtype:
    return torch.promote_types(coefficients.dtype, torch.float32)


def _block_b(dtype: torch.dtype) -> int:
    """Samples at a time: a double takes two registers."""
    return BLOCK_B // 2 if dtype == torch.float64 else BLOCK_B


def _block(n_out: int, largest: int) -> int:
    return next((b for b in BLOCKS_O if b >= min(n_out, largest)), largest)


def _blocks(n: int, size: int) -> int:
    return -(-n // size)
