"""The CPU kernels' machine code: read from a file, or compiled and written there.

Numba's own cache believes what it reads: a torn file of it raises in every process, or
ends it inside LLVM. Here a file holds a kernel for given types, behind a digest of its
content and of all that it was made from; one that does not match is replaced.
"""

import hashlib
import inspect
import logging
import os
import pickle
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from filelock import FileLock
from numba.core import types
from numba.core.caching import CompileResultCacheImpl
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from kancl.collector import not_collecting
from kancl.splines import kernels_cpu, simd

MOST_BYTES = 2**25  # of a file: some ten times what the kernels take
PATIENCE_SECONDS = 180.0  # for another process that compiles

_logger = logging.getLogger(__name__)

if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
    raise ImportError("NUMBA_DISABLE_JIT is set")


def kernels(x: str, coefficients: str) -> Any:
    """The module of kernels, compiled for such inputs and coefficients.

    Args:
        x: float32 or float64, as ``coefficients``.
    Raises: whatever Numba does where it can't compile.
    """
    signatures = _signatures(getattr(types, x), getattr(types, coefficients))
    try:
        folder = _folder()
    except (RuntimeError, OSError) as error:  # nowhere to write to
        _compile(signatures)
        _tell_unwritten(error)
        return kernels_cpu
    if _missing(folder, signatures):
        with _one_at_a_time(folder):
            # Another process may have been first.
            if missing := _missing(folder, signatures):
                _compile(missing)
                _write(folder, missing)
    return kernels_cpu


def _folder() -> Path:
    """Where Numba would keep what it compiles: NUMBA_CACHE_DIR, say, or ``__pycache__``."""
    implementation = CompileResultCacheImpl(kernels_cpu.spline_sum.py_func)
    return Path(implementation.locator.get_cache_path())


def _processor() -> str:
    context = kernels_cpu.spline_sum.targetctx
    context.refresh()
    return repr(context.codegen().magic_tuple())


def _machine() -> str:
    """Python and the processor: machines that share a folder keep files of their own."""
    digest = hashlib.sha256(_processor().encode()).hexdigest()
    return f"{sys.implementation.cache_tag}-{digest[:8]}"


@cache
def _origin() -> bytes:
    """All that the machine code depends on."""
    sources = [inspect.getsource(module) for module in (kernels_cpu, simd)]
    versions = sys.version, numba.__version__, llvmlite.__version__, np.__version__
    return "\n".join([_processor(), *versions, *sources]).encode()


def _path(folder: Path, name: str, signature: Any) -> Path:
    digest = hashlib.sha256(repr(signature).encode()).hexdigest()
    return folder / f"{name}.{_machine()}-{digest[:8]}.bin"


def _signatures(x: Any, coefficients: Any) -> dict[str, tuple[Any, ...]]:
    """The types of the arguments of each kernel that is called from Python."""
    ends, number = types.float64[::1], types.int64
    grid = types.Tuple((ends, ends, number, number, number))
    xs, matrix, cube = x[:, ::1], coefficients[:, ::1], coefficients[:, :, ::1]
    samples, part = (xs, ends, types.boolean, grid), (number, number)
    return {
        "backgrounds": (xs,),
        "spline_sum": (*samples, cube, matrix, matrix, *part),
        "input_gradient": (xs, grid, cube, matrix, matrix, xs, *part),
        "coefficient_gradient": (*samples, cube, matrix, cube, cube, matrix, *part),
    }


def _compile(signatures: Mapping[str, Any]) -> None:
    _logger.warning(
        "Compiling the kernels that sum splines, once on this machine: about 10 s"
    )
    with not_collecting():
        for name, signature in signatures.items():
            getattr(kernels_cpu, name).compile(signature)


def _missing(folder: Path, signatures: Mapping[str, Any]) -> dict[str, Any]:
    """Read kernels, and return those that still have to be compiled."""
    missing = {}
    for name, signature in signatures.items():
        kernel = getattr(kernels_cpu, name)
        if signature in kernel.overloads:
            continue
        content = _read(_path(folder, name, signature))
        if content is None:
            missing[name] = signature
        else:
            payload = pickle.loads(content)
            kernel.add_overload(CompileResult._rebuild(kernel.targetctx, *payload))
    return missing


def _read(path: Path) -> bytes | None:
    """What was written; None if there is no file, or it is torn, or of another origin."""
    try:
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            return None
        data = path.read_bytes()
    except OSError:
        return None
    digest, content = data[:32], data[32:]
    return content if digest == hashlib.sha256(_origin() + content).digest() else None


def _write(folder: Path, signatures: Mapping[str, Any]) -> None:
    for name, signature in signatures.items():
        content = dumps(getattr(kernels_cpu, name).overloads[signature]._reduce())
        path = _path(folder, name, signature)
        part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:16]}.part")
        try:
            part.write_bytes(hashlib.sha256(_origin() + content).digest() + content)
            os.replace(part, path)
        except OSError as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            _tell_unwritten(error)
            return


def _tell_unwritten(error: Exception) -> None:
    _logger.warning(
        "Each process compiles these kernels anew, as they cannot be kept (%s): set "
        "NUMBA_CACHE_DIR to a folder that can be written to",
        error,
    )


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Inside, no other process compiles for this folder, where there are locks."""
    lock = FileLock(folder / "kernels.lock", timeout=PATIENCE_SECONDS)
    with suppress(OSError, NotImplementedError):  # a Timeout, too
        lock.acquire()
    try:
        yield
    finally:
        with suppress(OSError):
            lock.release(force=True)
