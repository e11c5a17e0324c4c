"""Sweeps that go on: locks, what is left out, what is shown and counted."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kancl.cli import main
from kancl.plugins import Plugin
from kancl.runner.identity import run_folder
from kancl.runner.request.compose import read_request
from kancl.runs import lock_holder, run_lock
from kancl.strategies import STRATEGIES
from tests.processes import exit_code, forked

Capture = pytest.CaptureFixture[str]
SMALL = (
    *"scenario.train_samples=32 scenario.test_samples=10 scenario.n_experiences=2".split(),
    *"training.batch_size=16 evaluation.samples=0 tensorboard=none device=cpu".split(),
    *"model=mlp model.hidden=[3]".split(),
)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def broken_seeds() -> Iterator[set[int]]:
    """Runs with seeds in this set fail."""
    naive, seeds = STRATEGIES["naive"], set[int]()

    class BreakingPlugin(Plugin):
        def before_update(self, strategy: Any, **kwargs: Any) -> None:
            if _seed_of(strategy) in seeds:
                raise RuntimeError("the plugin broke")

    STRATEGIES["naive"] = [*naive, BreakingPlugin]
    yield seeds
    STRATEGIES["naive"] = naive


def _seed_of(strategy: Any) -> int:
    keepers = [p for p in strategy.plugins if type(p).__name__ == "CheckpointPlugin"]
    return int(keepers[0]._folder.path.parent.name.split("-")[0].removeprefix("seed"))


def test_the_same_line_makes_only_what_is_missing(
    broken_seeds: set[int], capsys: Capture
) -> None:
    line = ["run", "-q", "-m", *SMALL, "seed=0,1,2"]
    broken_seeds.add(1)
    assert main(line) == 1
    said = capsys.readouterr().err
    assert "failed: RuntimeError: the plugin broke" in said.split("kancl: 1 of 3")[0]
    assert "1 of 3 runs: 1 failed" in said and "mlp-naive seed 1" in said
    assert main(["status"]) == 1
    told = capsys.readouterr().out
    assert "3 runs: 2 completed, 1 failed" in told and "the plugin broke" in told
    broken_seeds.clear()
    summaries = sorted(Path("logs").glob("*/*/*/summary.json"))
    before = [path.stat().st_mtime_ns for path in summaries]
    assert main(line) == 0
    after = [path.stat().st_mtime_ns for path in summaries]
    assert [a == b for a, b in zip(before, after)] == [True, False, True]
    assert "of 3 runs" not in capsys.readouterr().err
    assert main(["status"]) == 0


def test_a_run_that_another_process_makes_is_left_to_it(capsys: Capture) -> None:
    assert main(["run", "-q", "-m", *SMALL, "seed=0,1"]) == 0
    (folder,) = Path("logs").glob("*/*/seed1-*")
    (folder / "summary.json").unlink()
    pid = _holding(folder)
    try:
        assert main(["run", "-q", "-m", *SMALL, "seed=0,1"]) == 1
        said = capsys.readouterr().err
        assert f"is being made by process {pid} on" in said
        assert "1 of 2 runs: 1 running" in said
        assert main(["status"]) == 1
        assert f"running   {folder.relative_to('logs')}" in capsys.readouterr().out
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert lock_holder(folder) is None and (folder / ".lock").exists()
    assert main(["status"]) == 1 and "stopped" in capsys.readouterr().out
    assert main(["run", "-q", "-m", *SMALL, "seed=0,1"]) == 0
    assert not (folder / ".lock").exists()


def _holding(folder: Path) -> int:
    """A process that holds a run folder, and would for an hour."""

    def hold() -> None:
        with run_lock(folder):
            time.sleep(3600)

    pid = forked(hold)
    deadline = time.monotonic() + 60
    while f"process {pid} on" not in (lock_holder(folder) or ""):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return pid


def test_missing_runs_are_told(capsys: Capture) -> None:
    Path("logs/sweeps").mkdir(parents=True)
    Path("logs/sweeps/a.json").write_text(json.dumps({"runs": ["a/b/seed0-x"]}))
    assert main(["status"]) == 1
    out = capsys.readouterr().out
    assert "missing   a/b/seed0-x" in out and "1 runs: 1 missing" in out
    assert out.splitlines()[-1].startswith(
        "next: the same command makes what is missing"
    )


def test_sigterm_writes_a_checkpoint_and_leaves(capfd: Capture) -> None:
    line = ["run", "-q", *SMALL, "training.iterations=800", "keep_model=true"]
    pid = forked(lambda: main(line))
    deadline = time.monotonic() + 60
    while not list(Path("logs").glob("*/*/*/config.yaml")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.2)
    os.kill(pid, signal.SIGTERM)
    assert exit_code(pid) == 143
    assert "stopped by SIGTERM, checkpoint written" in capfd.readouterr().out
    (folder,) = Path("logs").glob("*/*/seed0-*")
    assert list(folder.glob("checkpoint/*.ckpt")) and not (folder / ".lock").exists()
    assert main(line) == 0
    env = json.loads((folder / "env.json").read_text())
    assert len(env["resumed_at_iterations"]) == 1
    assert main([*line, "log_dir=undisturbed"]) == 0
    (whole,) = Path("undisturbed").glob("*/*/seed0-*")
    for name in ("model.pt", "metrics.csv", "accuracy_matrix.csv"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_a_cell_that_cannot_be_written_stops_no_other(capsys: Capture) -> None:
    line = ["run", "-q", "-m", *SMALL, "seed=0,1,2"]
    first, second, _ = [run_folder(c) for c in read_request(line[3:], True).configs]
    first.parent.mkdir(parents=True)
    first.write_text("a file where the folder belongs")
    (second / ".lock").mkdir(parents=True)
    assert main(line) == 1
    said = capsys.readouterr()
    assert f"cannot write {first}: " in said.err
    assert len(list(Path("logs").glob("*/*/*/summary.json"))) >= 1
    assert "2 of 3 runs" in said.err or "1 of 3 runs" in said.err
    assert first.read_text() == "a file where the folder belongs"


def test_a_completed_run_that_was_damaged_costs_its_own_curve(capsys: Capture) -> None:
    line = ["run", "-q", "-m", *SMALL, "evaluation.samples=2", "model.hidden=[3],[4]"]
    assert main(line) == 0
    damaged, _ = sorted(Path("logs").glob("*/*/*/metrics.csv"))
    damaged.write_bytes(damaged.read_bytes()[:200])
    capsys.readouterr()
    assert main(line) == 0
    said = capsys.readouterr()
    assert f"{damaged.parent} is in no table: ValueError: metrics.csv" in said.err
    assert "1 unreadable, not in the means: mlp-naive" in said.out
    assert "open: logs/comparisons/" in said.out and "next: kancl report" in said.out
