"""The sparse path as an operation of autograd."""

import importlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import Function
from torch.nn import Parameter

from kancl.splines.dense import dense_gradients
from kancl.splines.uniform import UniformGrid

HIGHEST_DEGREE = 3
# Bases per edge from which on `auto` takes this path on a CPU in place of the dense one.
# Measured, forward and backward on one core at 784 inputs, 1 to 1,024 outputs, batches of
# 1 to 256: up to 6 bases dense takes 0.6 to 1.15 of the time, at 8 1.0 to 1.9 of it.
FEWEST_BASES_IN_AUTO = 7
FEWEST_BASES = 4
BLOCK = 16  # the kernels read gradients of outputs in blocks of so many columns
WORTH_A_THREAD = 2**20  # multiplications
WORTH_A_LOOK = 8  # samples

_logger = logging.getLogger(__name__)


def why_not_sparse(grid_size: int, degree: int) -> str | None:
    """What keeps splines of this kind, or this machine, from the sparse path."""
    if degree > HIGHEST_DEGREE:
        return f"degree is {degree}, the sparse path takes 1 to {HIGHEST_DEGREE}"
    if grid_size + degree < FEWEST_BASES:
        return (
            f"grid_size + degree is {grid_size + degree}, the sparse path needs at "
            f"least {FEWEST_BASES} bases"
        )
    if _kernels() is None:
        return "Numba is missing or can't compile here (pip install numba)"
    return None


def takes_sparse(x: Tensor, coefficients: Tensor) -> bool:
    """Whether these tensors are ordinary ones on a CPU, of one floating dtype.

    Tracing, function transforms, autocast and half precision are for the dense path.
    """
    return (
        x.device.type == "cpu"
        and coefficients.device.type == "cpu"
        and coefficients.dtype in (torch.float32, torch.float64)
        and x.dtype in (coefficients.dtype, torch.float64)
        and type(x) in (Tensor, Parameter)
        and type(coefficients) in (Tensor, Parameter)
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and not torch.is_autocast_enabled("cpu")
    )


def sparse_spline_sum(
    x: Tensor, coefficients: Tensor, scale: Tensor | None, grid: UniformGrid
) -> Tensor:
    """``y_o = sum_i scale_io sum_g coefficients_igo B_g(x_i)``, live bases only.

    Per value ``degree + 1`` rows of ``coefficients`` are read, whatever the grid size.
    Backward keeps ``x`` and evaluates again. A second derivative goes the dense way.

    Shape: x ``(batch, in_features)``, coefficients ``(in_features, n_basis,
        out_features)``, scale ``(in_features, out_features)`` -> ``(batch,
        out_features)``.
    """
    y: Tensor = _SparseSplineSum.apply(x, coefficients, scale, grid)
    return y


class _SparseSplineSum(Function):
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
        weights, scales = _array(coefficients), _array_or_none(scale, coefficients)
        y = coefficients.new_zeros(x.shape[0], coefficients.shape[2])
        spline_sum = _kernels().spline_sum
        values = _array(x)
        ctx.apart = apart = _set_apart(values, grid, x.requires_grad)
        fixed = values, *apart, *_constants(grid), weights, scales, y.numpy()
        _in_parts(spline_sum, fixed, x.shape[0], x.numel() * y.shape[1])
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, coefficients, scale = ctx.saved_tensors
        needed = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():  # someone wants to differentiate again
            inputs = x, coefficients, scale
            return *dense_gradients(*inputs, ctx.grid, grad, needed), None
        work = x.numel() * grad.shape[1]
        given = _array(x), *ctx.apart, *_constants(ctx.grid)
        weights, scales = _array(coefficients), _array_or_none(scale, coefficients)
        of_x = of_coefficients = of_scale = None
        if needed[0]:
            of_x = torch.empty_like(x, memory_format=torch.contiguous_format)
            kernel = _kernels().input_gradient
            fixed = *given, weights, scales, _array(grad), of_x.numpy()
            _in_parts(kernel, fixed, x.shape[1], work)
        if needed[1] or needed[2]:
            of_coefficients = torch.empty(coefficients.shape, dtype=coefficients.dtype)
            if scale is not None:
                of_scale = torch.zeros(scale.shape, dtype=scale.dtype)
            kernel = _kernels().coefficient_gradient
            results = of_coefficients.numpy(), _array_or_none(of_scale, coefficients)
            grads = _array(_in_blocks(grad))
            fixed = *given, weights, scales, grads, *results
            _in_parts(kernel, fixed, x.shape[1], work)
        return of_x, of_coefficients, of_scale, None


@cache
def _kernels() -> Any:
    """The module of kernels; ``None``, and one line in the log, where it can't be."""
    try:
        return importlib.import_module("kancl.splines.sparse.kernels")
    except (ImportError, RuntimeError) as error:
        _logger.warning(
            "The sparse spline path is off, splines take the dense path, which is "
            "slower: %s",
            error,
        )
        return None


@cache
def _threads(n: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n, thread_name_prefix="kancl-splines")


def _in_parts(
    kernel: Callable[..., None], fixed: tuple[Any, ...], n: int, work: int
) -> None:
    """``kernel(*fixed, start, stop)`` for all of ``0 .. n``, on torch's many threads.

    No result depends on how many there are.
    """
    n_threads = min(torch.get_num_threads(), n, work // WORTH_A_THREAD)
    if n_threads <= 1:
        kernel(*fixed, 0, n)
        return
    ends = [n * k // n_threads for k in range(n_threads + 1)]
    parts = _threads(n_threads).map(partial(kernel, *fixed), ends, ends[1:])
    list(parts)  # waits, and raises what they raised


def _in_blocks(grad: Tensor) -> Tensor:
    """``(batch, n_outputs)`` -> ``(n_blocks, batch, BLOCK)``, filled up with zeros."""
    missing = -grad.shape[1] % BLOCK
    if missing:
        grad = torch.nn.functional.pad(grad, (0, missing))
    return grad.reshape(len(grad), -1, BLOCK).transpose(0, 1)


def _constants(grid: UniformGrid) -> tuple[Any, ...]:
    """What the kernels want to know of the grid, worked out once for each."""
    known: tuple[Any, ...] | None = grid.__dict__.get("_constants")
    if known is None:
        low = grid.low.double()
        cells = grid.size / (grid.high.double() - low)
        outside = ("zero", "clamp", "linear").index(grid.outside)
        known = _array(low), _array(cells), grid.size, grid.degree, outside
        grid.__dict__["_constants"] = known
    return known


def _set_apart(
    x: NDArray[Any], grid: UniformGrid, in_between: bool
) -> tuple[NDArray[Any], bool]:
    """A value per input that is not worked on sample by sample, and why not.

    The anchor, where there is one: nothing is added there. Else what most samples of an
    input may have in common, a background: its part is added for all, and taken off for
    those that differ.

    Args:
        in_between: the inputs come from another layer, where no value comes twice.
    Returns: ``(in_features,)`` float64, NaN where there is none, or without elements if
        that goes for most; whether they are anchors.
    """
    if grid.anchor is not None:
        return _array(grid.anchor.double()), True
    if in_between or len(x) < WORTH_A_LOOK:
        return np.empty(0), False
    return _kernels().backgrounds(x), False


def _array(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().numpy()


def _array_or_none(tensor: Tensor | None, like: Tensor) -> Any:
    """An array without elements stands for ``None``."""
    return _array(like.new_empty(0, 0) if tensor is None else tensor)
