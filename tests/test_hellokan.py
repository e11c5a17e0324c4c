"""pykan's first example: the protocol cut short by default, in full as a proof."""

import runpy
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch

PATH = Path(__file__).parent.parent / "scenarios" / "hellokan.py"


@pytest.fixture(scope="module")
def hellokan() -> dict[str, Any]:
    return runpy.run_path(str(PATH))


def test_the_samples_are_pykans(hellokan: dict[str, Any]) -> None:
    x, held_out = hellokan["samples"]()
    torch.manual_seed(0)
    for k in (0, 1):
        for expected in (x, held_out):
            drawn = torch.rand(1000, dtype=torch.float64) * 2 - 1
            assert torch.equal(expected[:, k], drawn)


def test_errors_fall_from_stage_to_stage(
    capsys: pytest.CaptureFixture[str], hellokan: dict[str, Any], tmp_path: Path
) -> None:
    picture = tmp_path / "kan.png"
    words = ["--seeds=1", "--calls=2", f"--figure={picture}"]
    assert hellokan["main"](words) == 1  # so few steps do not get there
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    errors = [float(row[1]) for row in rows if row and row[0].isdigit()]
    assert len(errors) == 4 and errors == sorted(errors, reverse=True)
    assert picture.stat().st_size > 1000


@pytest.mark.proof
def test_errors_are_at_most_pykans(hellokan: dict[str, Any]) -> None:
    """But for the last stage beside grids that follow the samples: docs/results/hellokan.md."""
    errors, changes, _ = zip(*(hellokan["run"](seed) for seed in range(5)))
    medians = [median(per_stage) for per_stage in zip(*errors)]
    assert all(a <= b for a, b in zip(medians, hellokan["FIXED"].values()))
    following = [*hellokan["STAGES"].values()]
    assert all(a <= b for a, b in zip(medians[:3], following))
    for _, nested, also_nested in changes:  # 5 -> 10 -> 20
        assert max(nested, also_nested) < 1e-6
