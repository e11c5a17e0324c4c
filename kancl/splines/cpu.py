"""The kernels of ``kernels_cpu.py`` called with tensors, on many threads."""

import importlib
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, lru_cache, partial
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from kancl.splines.basis import Outside
from kancl.splines.uniform import UniformGrid

HIGHEST_DEGREE = 3
# Bases per edge from which on `auto` takes this path on a CPU. Measured, forward and
# backward on one core at 784 inputs, 1 to 1,024 outputs, batches of 1 to 256: dense takes
# 0.6 to 1.15 of the time up to 6 bases, 1.0 to 1.9 of it at 8.
FEWEST_BASES_IN_AUTO = 7
FEWEST_BASES = 4
BLOCK = 16  # the kernels read gradients of outputs in blocks of so many columns
WORTH_A_THREAD = 2**20  # multiplications
WORTH_A_LOOK = 8  # samples

_logger = logging.getLogger(__name__)


def why_not(grid_size: int, degree: int) -> str | None:
    """What keeps splines of this kind, or this machine, from the sparse path."""
    if degree > HIGHEST_DEGREE:
        return f"degree is {degree}, the sparse path takes 1 to {HIGHEST_DEGREE}"
    if grid_size + degree < FEWEST_BASES:
        return (
            f"grid_size + degree is {grid_size + degree}, the sparse path needs at "
            f"least {FEWEST_BASES} bases"
        )
    if _compiled() is None:
        return "Numba is missing or can't compile here (pip install numba)"
    return None


def takes(x: Tensor, coefficients: Tensor) -> bool:
    """Whether there are kernels for these tensors' devices and types, as they are used.

    Asked about these types for the first time, it may have to compile them.
    """
    return (
        x.device.type == "cpu"
        and coefficients.device.type == "cpu"
        and coefficients.dtype in (torch.float32, torch.float64)
        and x.dtype in (coefficients.dtype, torch.float64)
        and x.shape[0] > 0
        and not torch.is_autocast_enabled("cpu")
        and _kernels(x.dtype, coefficients.dtype) is not None
    )


def prepare(x: Tensor, grid: UniformGrid) -> tuple[Any, ...]:
    """Samples, their background (see ``kernels_cpu``) and the grid, as arrays."""
    arrays, anchor = grid.constant("arrays", lambda: _grid_arrays(grid))
    values, background = _array(x), anchor
    if anchor is None:  # from another layer, no value comes twice
        worth_it = len(x) >= WORTH_A_LOOK and not x.requires_grad
        backgrounds = _compiled().kernels_cpu.backgrounds
        background = backgrounds(values) if worth_it else np.empty(0)
    return values, background, anchor is not None, arrays


def _grid_arrays(grid: UniformGrid) -> tuple[tuple[Any, ...], Any]:
    """A grid as the kernels take it, and its anchor or None."""
    low, cells = map(_array, grid.cells)
    outside = get_args(Outside).index(grid.outside)
    anchor = None if grid.anchor is None else _array(grid.anchor.double())
    return (low, cells, grid.size, grid.degree, outside), anchor


def spline_sum(
    samples: tuple[Any, ...],
    coefficients: Tensor,
    scale: Tensor | None,
    base_weight: None,
) -> Tensor:
    batch, n_outputs = len(samples[0]), coefficients.shape[2]
    y = coefficients.new_zeros(batch, n_outputs)
    arrays = *samples, *_splines(coefficients, scale), y.numpy()
    kernel = _kernels(samples[0].dtype, coefficients.dtype).spline_sum
    _in_parts(kernel, arrays, batch, samples[0].size * n_outputs)
    return y


def input_gradient(
    samples: tuple[Any, ...],
    coefficients: Tensor,
    scale: Tensor | None,
    base_weight: None,
    grad: Tensor,
) -> Tensor:
    x, _, _, grid = samples
    grad_x = torch.empty_like(torch.from_numpy(x))
    arrays = x, grid, *_splines(coefficients, scale), _array(grad), grad_x.numpy()
    kernel = _kernels(x.dtype, coefficients.dtype).input_gradient
    _in_parts(kernel, arrays, x.shape[1], x.size * grad.shape[1])
    return grad_x


def coefficient_gradient(
    samples: tuple[Any, ...],
    coefficients: Tensor,
    scale: Tensor | None,
    base_weight: None,
    grad: Tensor,
) -> tuple[Tensor, Tensor | None, None]:
    """The gradients by the coefficients and by the scale; no base weights come here."""
    x = samples[0]
    grads = torch.empty(coefficients.shape, dtype=coefficients.dtype)
    none = coefficients.new_empty(0, 0)
    scale_grads = none if scale is None else torch.zeros(scale.shape, dtype=scale.dtype)
    missing = -grad.shape[1] % BLOCK
    padded = torch.nn.functional.pad(grad, (0, missing)) if missing else grad
    blocks = padded.reshape(len(grad), -1, BLOCK).transpose(0, 1)
    splines = *_splines(coefficients, scale), _array(blocks)
    arrays = *samples, *splines, grads.numpy(), scale_grads.numpy()
    kernel = _kernels(x.dtype, coefficients.dtype).coefficient_gradient
    _in_parts(kernel, arrays, x.shape[1], x.size * grad.shape[1])
    return grads, None if scale is None else scale_grads, None


@cache
def _compiled() -> Any:
    """The module that compiles kernels; ``None``, and a line in the log, without Numba."""
    with _dense_instead():
        return importlib.import_module("kancl.splines.compiled")


@cache
def _kernels(x: Any, coefficients: torch.dtype) -> Any:
    """The kernels for torch's or NumPy's types; ``None``, and a line in the log, where there are none."""
    if _compiled() is not None:
        with _dense_instead():
            names = (str(dtype).removeprefix("torch.") for dtype in (x, coefficients))
            return _compiled().kernels(*names)


@contextmanager
def _dense_instead() -> Iterator[None]:
    """Whatever Numba and LLVM raise inside ends in one line in the log."""
    try:
        yield
    except Exception as error:
        _logger.warning(
            "The sparse spline path is off, splines take the dense path, which is "
            "slower: %s",
            error,
        )


@cache
def _threads(n: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n, thread_name_prefix="kancl-splines")


if hasattr(os, "register_at_fork"):  # a forked process has none of the threads
    os.register_at_fork(after_in_child=_threads.cache_clear)


def _in_parts(
    kernel: Callable[..., None], arrays: tuple[Any, ...], n: int, work: int
) -> None:
    """``kernel(*arrays, start, stop)`` for ``0 .. n``, alike on any number of threads."""
    n_threads = min(torch.get_num_threads(), n, work // WORTH_A_THREAD)
    if n_threads <= 1:
        kernel(*arrays, 0, n)
        return
    ends = [n * k // n_threads for k in range(n_threads + 1)]
    parts = _threads(n_threads).map(partial(kernel, *arrays), ends, ends[1:])
    list(parts)  # waits, and raises what they raised


def _splines(coefficients: Tensor, scale: Tensor | None) -> tuple[Any, Any]:
    """Coefficients and scale; an array without elements stands for no scale."""
    if scale is None:
        scale = coefficients.new_empty(0, 0)
    return _parameter(coefficients), _parameter(scale)


class _Memory:
    def __init__(self, address: int, shape: torch.Size, size: int) -> None:
        self.__array_interface__ = {
            "data": (address, False),
            "shape": tuple(shape),
            "typestr": f"<f{size}",
            "version": 3,
        }


@lru_cache(1024)
def _view(address: int, shape: torch.Size, size: int) -> Any:
    """Floats of ``size`` bytes as an array that does not own them."""
    return np.asarray(_Memory(address, shape, size))


def _parameter(tensor: Tensor) -> Any:
    """A tensor that lives as long as the array is used, as an array.

    Unlike ``numpy()``, its storage may be resized later: fully sharded training frees
    parameters that way.
    """
    if tensor.numel() == 0 or not tensor.is_contiguous():
        return _array(tensor)
    return _view(tensor.data_ptr(), tensor.shape, tensor.itemsize)


def _array(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().numpy()
