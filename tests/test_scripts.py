"""Every run script, cut to seconds."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "scenarios"
OTHERS = {"gaussian_peaks", "hellokan"}
SCRIPTS = [p for p in sorted(FOLDER.glob("*.py")) if p.stem not in OTHERS]
CUT = [
    "scenario.train_samples=40",
    "scenario.test_samples=20",
    "model.hidden=[4]",
    "training.epochs=1",
    "evaluation.samples=10",
    "evaluation.points_per_experience=2",
    "tensorboard=none",
]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_compares_kan_and_mlp(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    several = [] if path.stem == "mnist" else ["scenario.n_experiences=2"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path), *CUT, *several])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(path), run_name="__main__")
    assert end.value.code == 0
    found = [json.loads(p.read_text()) for p in Path("logs").glob("*/*/*/summary.json")]
    assert {run["model"] for run in found} == {"kan", "mlp"}
    assert all(run["scenario"].startswith(path.stem) for run in found)
    out = capsys.readouterr().out
    assert "KAN - MLP" in out and "open: logs/comparisons/" in out
    if path.stem == "mnist":
        assert "epoch 1/1, train accuracy" in out and "learning rate 1.0e-03" in out
        assert "validation\u2026" not in out and "epochs to" in out
        for question in ("fewer epochs?", "accuracies close?", "them overfits?"):
            assert question in out


def test_a_script_takes_overrides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = [path for path in SCRIPTS if path.stem == "split_mnist"]
    words = [*CUT, "model=mlp", "strategy=replay", "match=none", "-m", "seed=range(2)"]
    words += ["scenario.n_experiences=2", "scenario.incremental=task"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path), *words])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(path), run_name="__main__")
    assert end.value.code == 0
    folders = [p.parent.parent for p in Path("logs").glob("*/*/*/summary.json")]
    assert folders == [Path("logs/split_mnist-task/mlp-replay")] * 2


def test_five_peaks_are_a_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = FOLDER / "gaussian_peaks.py"
    monkeypatch.chdir(tmp_path)
    words = ["--rows", "mlp", "training.iterations=2"]
    monkeypatch.setattr(sys, "argv", [str(path), *words])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(path), run_name="__main__")
    assert end.value.code == 0
    assert "| mlp |" in Path("gaussian_peaks.md").read_text()
    assert Path("logs/gaussian-peaks/learned_functions.png").is_file()
