"""A killed run leaves whole files or none, and is made again."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from kancl.cli import main
from kancl.runner.identity import run_folder
from kancl.runner.request.compose import read_request
from kancl.runs import RunFolder, read_completed
from tests.processes import exit_code, forked

WORDS = (
    "model=mlp",
    "model.hidden=[4]",
    "scenario.train_samples=64",
    "scenario.test_samples=20",
    "training.iterations={iterations}",
    "tensorboard=numbers",
    "evaluation.samples=10",
)


def test_kill_then_run_again(tmp_path: Path) -> None:
    words = [*WORDS, f"log_dir='{tmp_path}'"]
    long = [word.format(iterations=10**6) for word in words]
    (config,) = read_request(long, sweep=False).configs
    folder = run_folder(config)
    pid = forked(lambda: main(["run", "--quiet", *long]))
    give_up = time.monotonic() + 120
    while not list(folder.glob("events*")):  # training begins
        assert os.waitpid(pid, os.WNOHANG) == (0, 0) and time.monotonic() < give_up
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    assert exit_code(pid) == -signal.SIGKILL

    left = {path.name for path in folder.iterdir() if path.is_file()}
    left = {name for name in left if not name.startswith("events.out")}
    locks = {".lock", ".lock.machine", ".lock.turn"}
    assert left <= {"config.yaml", "env.json", *locks}  # no half-file, no summary
    json.loads((folder / "env.json").read_text())
    assert OmegaConf.load(folder / "config.yaml").training.iterations == 10**6

    # the same folder, shortened by hand so that it ends: made again from the start
    text = (folder / "config.yaml").read_text().replace("1000000", "3")
    (folder / "config.yaml").write_text(text)
    (folder / ".metrics.csv.part").write_text("what a kill within a write leaves")
    assert main(["run", "--quiet", "--from", str(folder)]) == 0
    short = [word.format(iterations=3) for word in words]
    (config,) = read_request(short, sweep=False).configs
    summary = read_completed(run_folder(config))
    assert summary is not None and summary["n_iterations"] == 15


def test_a_run_clears_what_a_kill_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.format(iterations=2) for word in WORDS] + [f"log_dir='{tmp_path}'"]
    (config,) = read_request(words, sweep=False).configs
    folder = run_folder(config)
    folder.mkdir(parents=True)
    for name in ("summary.json", "error.txt", ".metrics.csv.part", "events.out.old"):
        (folder / name).write_text("{")  # say, half a summary of a full disk
    assert main(["run", *words]) == 0
    assert read_completed(run_folder(config)) is not None
    assert not (folder / "error.txt").exists()
    assert not list(folder.glob(".*.part")) and not (folder / "events.out.old").exists()
    events = len(list(folder.glob("events.out.*")))
    capsys.readouterr()
    assert main(["run", *words]) == 0
    assert "completed before, skipped" in capsys.readouterr().out
    assert main(["run", *words, "overwrite=true"]) == 0
    assert len(list(folder.glob("events.out.*"))) == events


@pytest.mark.parametrize(
    "name", ["metrics.csv", "accuracy_matrix.csv", "config.yaml", "summary.json"]
)
def test_a_folder_that_has_lost_a_file_is_no_result(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.format(iterations=2) for word in WORDS] + [f"log_dir='{tmp_path}'"]
    (config,) = read_request(words, sweep=False).configs
    assert main(["run", *words]) == 0
    folder = run_folder(config)
    before = read_completed(folder)
    assert before is not None
    if name == "summary.json":
        (folder / name).write_text('{"status": "completed", "n_parameters": 1}')
    else:
        (folder / name).unlink()
    assert read_completed(folder) is None
    if name != "config.yaml":  # by which runs are found
        assert main(["status", str(tmp_path)]) == 1
    capsys.readouterr()
    assert main(["run", *words]) == 0
    assert "skipped" not in capsys.readouterr().out
    after = read_completed(folder)
    assert after is not None
    assert after["average_accuracy"] == before["average_accuracy"]


def test_what_a_completed_run_lacks_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.format(iterations=2) for word in WORDS] + [f"log_dir='{tmp_path}'"]
    assert main(["run", *words, "tensorboard=none"]) == 0
    capsys.readouterr()
    assert main(["run", *words, "tensorboard=numbers", "keep_model=true"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "overwrite=true: it has no model.pt and TensorBoard's files" in said


@pytest.mark.parametrize(
    "content",
    [
        *(None, "{", "[]", '{"a": NaN}', '{"a": 1e999}'),
        *(f'{{"resumed_at_iterations": {wrong}}}' for wrong in (7, '"x"', "{}")),
    ],
)
def test_a_run_resumes_without_what_it_noted_at_its_beginning(
    content: str | None, tmp_path: Path
) -> None:
    folder, env = RunFolder(tmp_path), tmp_path / "env.json"
    folder.start({"seed": 0}, {"commit": "begun"})
    folder.resume(7, {"commit": "resumed"})
    begun = {"commit": "begun", "resumed_at_iterations": [7]}
    assert json.loads(env.read_text()) == begun
    if content is None:
        env.unlink()
    else:
        env.write_text(content)
    folder.resume(9, {"commit": "resumed"})
    again = {"commit": "resumed", "resumed_at_iterations": [9]}
    assert json.loads(env.read_text()) == again
