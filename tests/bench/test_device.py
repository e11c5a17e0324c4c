"""The device checks run, small, on the CPU: where there is no GPU they cannot rot."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kancl.bench.device import CHECKS, Report


@pytest.mark.slow
def test_every_check_holds_on_the_cpu(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    command = [sys.executable, "-m", "kancl.bench.device", "--small"]
    # Triton's interpreter is chosen before Triton is imported, so in a process apart.
    done = subprocess.run(
        [*command, "--device", "cpu", "--json", str(path)],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(path.read_text())
    verdicts = {check: verdict for check, _, _, verdict in rows}
    n_triton = sum(
        "triton" in check and verdict == "PASS" for check, verdict in verdicts.items()
    )
    try:
        import triton  # noqa: F401
    except ImportError:
        assert n_triton == 0
    else:
        assert n_triton == 2 + 2 + 2  # equality, derivatives, determinism and NaN
    assert list(verdicts.values()).count("PASS") == n_triton + 3 + 2 + 2 + 1 + 1 + 4
    needing_a_gpu = [c for c, verdict in verdicts.items() if verdict == "not run"]
    assert all("CUDA" in c or "memory" in c or "compile" in c for c in needing_a_gpu)


def test_without_avalanche_the_layers_are_checked_all_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = Report(torch.device("cpu"), small=True)
    monkeypatch.setitem(sys.modules, "kancl.strategies", None)
    with report.guarded("strategies"):
        CHECKS["strategies"](report)
    assert report.rows[0][3] == "not run" and not report.failed


def test_a_broken_check_is_reported_and_the_rest_goes_on() -> None:
    report = Report(torch.device("cpu"))
    report.add("good", "1", "1", True)
    report.add("figure", "2")
    report.not_run("missing", "no GPU")
    report.add("bad", "3", "4", False)
    with report.guarded("broken"):
        raise RuntimeError("out of memory")
    assert report.failed == ["bad", "broken"]
    assert [row[3] for row in report.rows] == ["PASS", "", "not run", "FAIL", "FAIL"]
