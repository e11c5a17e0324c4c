"""The fused path: its cases in a process apart, and its kernels through the compiler."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kancl import KANLinear
from kancl.splines import gpu

CASES = Path(__file__).with_name("gpu_cases.py")
# No GPU is needed for either: an H100's instructions can be made anywhere.
HOPPER = """
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from kancl.splines import kernels_gpu as kernels

options = dict(GRID=(20, 3, "linear", tl.float32), ANCHORED=True, SCALED=True,
               BLOCK_B=32, BLOCK_O=32, BLOCK_G=16)
double = ("low", "cells", "anchor")
count = ("batch", "n_in", "n_out", "inputs_per_part")
for kernel in (kernels.spline_sum, kernels.input_gradient, kernels.coefficient_gradient):
    signature = {
        name: "constexpr" if name in options else "i32" if name in count
        else "*fp64" if name in double else "*fp32"
        for name in kernel.arg_names
    }
    chosen = {k: v for k, v in options.items() if k in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=chosen)
    built = triton.compile(
        source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": True}
    )
    assert "atom." not in built.asm["ptx"] and built.asm["cubin"]
"""


def run_apart(arguments: list[str], **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        cwd=CASES.parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-8000:]
    return done.stdout


def test_cases_hold_on_a_gpu_or_in_the_interpreter() -> None:
    pytest.importorskip("triton", reason="Triton comes with torch's CUDA builds only")
    # The variable has to be there before Triton is imported, and changes all of it.
    interpret = "0" if torch.cuda.is_available() else "1"
    output = run_apart(
        ["-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", str(CASES)],
        TRITON_INTERPRET=interpret,
    )
    assert "passed" in output and "skipped" not in output


def test_kernels_compile_for_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="Triton comes with torch's CUDA builds only")
    run_apart(["-c", HOPPER], TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path))


def test_tensors_on_a_cpu_are_refused() -> None:
    pytest.importorskip("triton", reason="Triton comes with torch's CUDA builds only")
    layer = KANLinear(3, 2, implementation="triton")
    with pytest.raises(ValueError, match="on one CUDA device, got cpu.*choose 'auto'"):
        layer(torch.rand(4, 3))


def test_an_impossible_layer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="degree is 4, the fused path takes 1 to 3"):
        KANLinear(3, 2, spline_order=4, implementation="triton")
    monkeypatch.setitem(sys.modules, "kancl.splines.kernels_gpu", None)
    gpu._kernels.cache_clear()
    with pytest.raises(ValueError, match="Triton is missing"):
        KANLinear(3, 2, implementation="triton")
    monkeypatch.undo()
    gpu._kernels.cache_clear()
