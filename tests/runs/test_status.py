"""What is said of runs that have no result, or none that can be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kancl.runs import run_lock
from kancl.runs.status import note_runs, read_status, report_failures, show_status

NAME = "split_mnist-class/kan-naive/seed0-x"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run that was begun in ``tmp_path``."""
    path = tmp_path / NAME
    (path / "checkpoint").mkdir(parents=True)
    (path / "config.yaml").write_text("seed: 0\n")
    return path


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([], "begins anew"),
        (["experience-0002.ckpt"], "goes on where its last experience begins"),
        (
            ["experience-0002.ckpt", "iteration-000000090.ckpt"],
            "goes on at iteration 90",
        ),
    ],
)
def test_a_stopped_run_says_where_it_resumes(
    folder: Path, tmp_path: Path, files: list[str], reason: str
) -> None:
    for name in files:
        (folder / "checkpoint" / name).touch()
    assert read_status(tmp_path) == [(NAME, "stopped", reason)]


@pytest.mark.parametrize(
    ("summary", "state", "reason"),
    [
        ("{", "stopped", "its summary.json cannot be read"),
        ("[1]", "stopped", "its summary.json cannot be read"),
        ('{"status": ["completed"]}', "stopped", "its summary.json cannot be read"),
        ('{"status": "missing"}', "stopped", "its summary.json cannot be read"),
        (
            '{"status": "completed"}',
            "stopped",
            "files of it are missing: begins anew",
        ),
        ('{"status": "diverged", "error": "a\\n\\u001b[2Jb"}', "diverged", "a [2Jb"),
    ],
)
def test_a_summary_is_believed_as_far_as_it_can_be_read(
    folder: Path, tmp_path: Path, summary: str, state: str, reason: str
) -> None:
    (folder / "summary.json").write_text(summary)
    assert read_status(tmp_path) == [(NAME, state, reason)]


def test_a_study_is_counted_and_what_is_not_completed_is_listed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    comparison = tmp_path / "comparisons/first-look"
    note_runs(comparison, [folder, tmp_path / "a/b/seed1-y"])
    noted = json.loads((comparison / "runs.json").read_text())
    assert noted == {"runs": ["a/b/seed1-y", NAME]}
    with run_lock(folder):
        show_status(read_status(tmp_path))
    running, missing, total, what_next = capsys.readouterr().out.splitlines()
    assert running.startswith(f"running   {NAME}  (process ")
    assert missing == "missing   a/b/seed1-y"
    assert total == "2 runs: 1 running, 1 missing"
    assert what_next.startswith("next: the same command makes what is missing")
    (tmp_path / "c/d/seed2-z").mkdir(parents=True)
    (tmp_path / "c/d/seed2-z/config.yaml").touch()
    assert len(read_status(tmp_path)) == 3 and len(read_status(comparison)) == 2


def test_a_comparison_is_one_of_the_same_runs_or_more(tmp_path: Path) -> None:
    runs = [tmp_path / f"a/b/seed{k}-y" for k in range(3)]
    comparison = tmp_path / "comparisons/first-look"
    for some in (runs[:2], runs[:2], runs):
        note_runs(comparison, some)
    with pytest.raises(ValueError, match="first-look compares 1 runs .* another name="):
        note_runs(comparison, runs[:2])
    assert len(json.loads((comparison / "runs.json").read_text())["runs"]) == 3


def test_a_sweep_ends_with_what_has_no_result(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = {"scenario": "s", "model": "kan", "strategy": "naive", "status": "completed"}
    report_failures([{**run, "seed": 0}])
    assert capsys.readouterr().err == ""
    lost = {**run, "seed": 1, "status": "failed", "error": "why\nnot"}
    report_failures([{**run, "seed": 0}, lost])
    assert capsys.readouterr().err.splitlines() == [
        "kancl: 1 of 2 runs: 1 failed",
        "  failed    s kan-naive seed 1: why not",
    ]
