"""The fused path's checks on a CPU, in Triton's interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKS = Path(__file__).with_name("test_layers.py")


@pytest.mark.proof  # by default tests/splines/gpu_cases.py asks the same of the kernels
def test_the_fused_path_holds_in_the_interpreter() -> None:
    pytest.importorskip("triton", reason="Triton comes with torch's CUDA builds only")
    command = [sys.executable, "-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider"]
    # Triton's interpreter is chosen before Triton is imported, so in a process of its own.
    done = subprocess.run(
        [*command, str(CHECKS), "-k", "triton and cpu", "-m", "not cuda"],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        cwd=CHECKS.parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-8000:]
    # two degrees of equality (it takes 1 to 3), two derivatives, equal bits, NaN
    assert "6 passed" in done.stdout and "1 skipped" in done.stdout
