"""The device checks run, small, on the CPU: where there is no GPU they cannot rot."""

import json
from pathlib import Path

import pytest
import torch

from kancl.bench.device import Report, main


@pytest.mark.slow
def test_every_check_holds_on_the_cpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.json"
    assert main(["--device", "cpu", "--small", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())
    bounded = [check for check, _, holds in rows if holds]
    assert len(bounded) == 9 + 2 + 2 + 4  # equality, gradients, bytes, strategies
    assert "FAILED" not in capsys.readouterr().out


def test_a_broken_check_is_reported() -> None:
    report = Report(torch.device("cpu"))
    report.add("good", "1", True)
    report.add("figure", "2")
    report.add("bad", "3", False)
    assert report.failed == ["bad"]
