"""Links, pipes and folders in the place of files: nothing outside a folder is touched."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kancl.cli import main
from kancl.runner.identity import run_folder
from kancl.runner.request.compose import read_request
from kancl.runs import WriteError
from kancl.runs.files import delete, own_folder
from kancl.runs.names import FILES

Capture = pytest.CaptureFixture[str]
Plant = Callable[..., list[Path]]
SMALL = (
    *"scenario.train_samples=32 scenario.test_samples=10 scenario.n_experiences=2".split(),
    *"training.batch_size=16 evaluation.samples=0 tensorboard=none device=cpu".split(),
    *"model=mlp model.hidden=[3] checkpoint.every_iterations=1".split(),
)
OUTCOME = {"outcome": lambda config: (0.9, 0.5)}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def mine() -> Path:
    """A folder with all that kancl may replace or delete in its own."""
    folder = Path("mine")
    (folder / "experience_1").mkdir(parents=True)
    names = [
        "events.out.tfevents.1",
        "experience_1/events.out.tfevents.2",
        "thesis.txt",
    ]
    for name in (*FILES, *names, "iteration-000000003.ckpt", "my.ckpt", "report.html"):
        (folder / name).write_text(f"my {name}")
    return folder


def small_run(*words: str) -> Path:
    (config,) = read_request([*SMALL, *words], sweep=False).configs
    return run_folder(config)


def test_a_report_writes_through_no_link(plant: Plant) -> None:
    plant("seed=0,1", **OUTCOME, log_dir=Path("theirs"))
    victim, report = Path("bashrc"), Path("theirs/report")
    victim.write_text("my own")
    report.mkdir()
    names = ("runs.csv", "report.html", "results.md", "comparison.tex")
    for name, link in zip(names, [Path.symlink_to, Path.hardlink_to] * 2):
        link(report / name, victim.resolve())
    assert main(["report", "theirs"]) == 0
    assert victim.read_text() == "my own"
    assert (report / "runs.csv").read_text().startswith("benchmark,")
    assert not any((report / name).is_symlink() for name in names)


@pytest.mark.parametrize("inside", ["report", "report/tensorboard"])
def test_a_report_follows_no_link_of_a_folder(
    inside: str, plant: Plant, capsys: Capture
) -> None:
    plant("seed=0,1", **OUTCOME, log_dir=Path("theirs"))
    before = content(mine())
    link = Path("theirs") / inside
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(Path("mine").resolve())
    assert main(["report", "theirs"]) == 2
    said = capsys.readouterr().err
    assert f"{link} is a link to" in said and said.count("\n") == 1
    assert content(Path("mine")) == before
    assert main(["report", "theirs", "-o", "ours"]) == 0
    assert content(Path("mine")) == before


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
@pytest.mark.parametrize("name", [".lock", ".lock.machine", "config.yaml", "env.json"])
def test_a_run_writes_through_no_link(link: Any, name: str) -> None:
    thesis, folder = Path("thesis.txt"), small_run()
    thesis.write_text("years of work")
    folder.mkdir(parents=True)
    link(folder / name, thesis.resolve())
    main(["run", "-q", *SMALL])
    assert thesis.read_text() == "years of work"
    (folder / name).unlink(missing_ok=True)
    assert main(["run", "-q", *SMALL]) == 0


def test_a_run_follows_no_link_of_a_folder() -> None:
    before, folder = content(mine()), small_run()
    folder.parent.mkdir(parents=True)
    folder.symlink_to(Path("mine").resolve())
    assert main(["run", "-q", *SMALL]) == 2
    assert content(Path("mine")) == before
    folder.unlink()
    folder.mkdir()
    (folder / "experience_1").symlink_to(Path("mine").resolve())
    words = ["evaluation.samples=10", "tensorboard=numbers"]
    assert main(["run", "-q", *SMALL, *words]) in (0, 1)
    assert content(Path("mine")) == before


def test_checkpoints_on_another_disk_leave_all_else_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scratch, folder = mine(), small_run("seed=1")
    before = content(scratch)
    folder.mkdir(parents=True)
    (folder / "checkpoint").symlink_to(scratch.resolve())
    keep = "checkpoint.keep=true"
    assert main(["run", "-q", *SMALL, "seed=1", keep]) == 0
    theirs = scratch / folder.name
    assert {path.suffix for path in theirs.iterdir()} == {".ckpt"}
    # moved there by hand, from before there was a link
    (folder / "summary.json").unlink()
    for path in theirs.iterdir():
        path.rename(scratch / path.name)
    assert main(["run", "-q", *SMALL, "seed=1"]) == 0
    assert "resumed_at_iterations" in (folder / "env.json").read_text()
    for name, data in before.items():
        assert name.startswith("iteration") or content(scratch)[name] == data
    assert not theirs.exists() and (folder / "checkpoint").is_symlink()


def test_runs_on_another_disk_are_runs(capsys: Capture) -> None:
    Path("scratch").mkdir()
    Path("logs").symlink_to(Path("scratch").resolve())
    assert main(["run", "-q", *SMALL]) == 0
    folder = small_run()
    moved = Path("scratch2") / folder.name
    moved.parent.mkdir()
    folder.rename(moved)
    folder.symlink_to(moved.resolve())
    capsys.readouterr()
    assert main(["run", *SMALL]) == 0
    assert "completed before" in capsys.readouterr().out
    assert main(["run", "-q", *SMALL, "overwrite=true"]) == 0
    assert folder.is_symlink() and (moved / "summary.json").is_file()
    assert main(["status"]) == 0


def _pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("make", [_pipe, Path.mkdir], ids=["pipe", "folder"])
@pytest.mark.parametrize("name", ["metrics.csv", "config.yaml", "summary.json"])
def test_what_is_no_file_is_refused_by_name_before_training(
    make: Callable[[Path], None], name: str, capsys: Capture
) -> None:
    folder = small_run()
    folder.mkdir(parents=True)
    make(folder / name)
    assert main(["run", "-q", *SMALL]) == 2
    said = capsys.readouterr().err
    assert f"{folder / name} is a" in said and "move it away" in said
    assert [path.name for path in folder.iterdir()] == [name]


def test_a_pipe_for_a_checkpoint_is_passed_by(capsys: Capture) -> None:
    folder = small_run()
    (folder / "checkpoint").mkdir(parents=True)
    os.mkfifo(folder / "checkpoint" / "experience-0002.ckpt")
    assert main(["run", *SMALL]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "experience-0002.ckpt is no regular file" in said


def test_a_sweep_goes_on_past_a_folder_that_cannot_be(capsys: Capture) -> None:
    first, second = small_run("seed=0"), small_run("seed=1")
    first.parent.mkdir(parents=True)
    first.write_text("a file")
    (second / ".lock").mkdir(parents=True)
    assert main(["run", "-q", "-m", *SMALL, "seed=0,1,2"]) == 1
    said = capsys.readouterr().err
    assert "2 of 3 runs: 2 failed" in said and str(second / ".lock") in said
    assert (small_run("seed=2") / "summary.json").is_file()
    assert first.read_text() == "a file"


def test_deleting_takes_links_as_such_and_follows_none(tmp_path: Path) -> None:
    before, folder = content(mine()), Path("run")
    folder.mkdir()
    (folder / "experience_1").symlink_to(Path("mine").resolve())
    (folder / "summary.json").symlink_to(Path("mine/summary.json").resolve())
    (folder / "a/b").mkdir(parents=True)
    (folder / "a/b/events.out.1").write_text("ours")
    (folder / "notes.txt").write_text("the user's")
    delete(folder, "summary.json", "*events.out.*")
    assert content(Path("mine")) == before
    assert sorted(path.name for path in folder.iterdir()) == [
        "experience_1",
        "notes.txt",
    ]
    with pytest.raises(WriteError, match="experience_1 is a link to"):
        own_folder(folder / "experience_1")
