"""The fused path: its cases in a process apart, and what it refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kancl import KANLinear
from kancl.splines import gpu

CASES = Path(__file__).with_name("gpu_cases.py")


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


@pytest.mark.parametrize(
    "chosen", ["not proof", pytest.param("proof", marks=pytest.mark.proof)]
)
def test_cases_hold_on_a_gpu_or_in_the_interpreter(chosen: str) -> None:
    pytest.importorskip("triton", reason="Triton comes with torch's CUDA builds only")
    # The variable has to be there before Triton is imported, and changes all of it.
    interpret = "0" if torch.cuda.is_available() else "1"
    if (interpret, chosen) == ("0", "proof"):
        pytest.skip("on a GPU the default run holds all cases")
    output = run_apart(
        [
            "-m",
            "pytest",
            "-n0",
            "-q",
            "-p",
            "no:cacheprovider",
            "-m",
            chosen,
            str(CASES),
        ],
        TRITON_INTERPRET=interpret,
    )
    assert "passed" in output and "skipped" not in output


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
