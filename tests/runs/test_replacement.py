"""Finished files stay until new ones are whole, and then give way to all of them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kancl.cli import main
from kancl.plugins import Plugin
from kancl.runs import RunFolder, run_lock, write_whole
from kancl.runs.files import WriteError
from kancl.runs.replacement import Replacement, replacing
from kancl.runs.status import read_completed
from kancl.strategies import STRATEGIES
from tests.processes import exit_code, forked
from tests.runs.test_links import SMALL, content, small_run

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder() -> Path:
    """A report, a folder of TensorBoard's and a file of the user's."""
    folder = Path("report")
    for name in ("a.csv", "b.csv", "events/events.out.1", "notes.txt"):
        write_whole(folder / name, b"old")
    return folder


OLD = dict.fromkeys(["a.csv", "b.csv", "events/events.out.1", "notes.txt"], b"old")
NEW = {"a.csv": b"new", "events/events.out.2": b"new", "notes.txt": b"old"}
PATTERNS = ("*.csv", "events/*")


def make(new: Path) -> None:
    for name in ("a.csv", "events/events.out.2"):
        write_whole(new / name, b"new")


def test_new_files_take_the_place_of_all_old_ones(folder: Path) -> None:
    with replacing(folder, *PATTERNS) as new:
        make(new)
        assert OLD.items() <= content(folder).items()
    assert content(folder) == NEW


def test_old_files_stay_where_new_ones_are_not_made(folder: Path) -> None:
    with pytest.raises(KeyError):
        with replacing(folder, *PATTERNS) as new:
            make(new)
            raise KeyError
    assert content(folder) == OLD
    with run_lock(folder), pytest.raises(WriteError, match="is being made by"):
        with replacing(folder, *PATTERNS):
            pass


def killed_at(n: int, folder: Path) -> bool:
    """Replace in a process that is killed at its n-th rename or deletion, if there is one."""

    def replace() -> None:
        calls = [n]

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            def counting(*arguments: Any, **options: Any) -> Any:
                calls[0] -= 1
                if calls[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*arguments, **options)

            return counting

        for name in ("replace", "unlink", "rmdir"):
            setattr(os, name, counted(getattr(os, name)))
        with replacing(folder, *PATTERNS) as new:
            make(new)

    code = exit_code(forked(replace))
    assert code in (0, -signal.SIGKILL)
    return code != 0


def test_a_kill_leaves_the_old_files_or_what_the_next_one_ends(tmp_path: Path) -> None:
    old, new = 0, 0
    for n in range(1, 50):
        folder = Path(f"report{n}")
        for name in OLD:
            write_whole(folder / name, b"old")
        if not killed_at(n, folder):
            break
        ended = Replacement(folder, *PATTERNS).finish()
        left = {k: v for k, v in content(folder).items() if not k.startswith(".")}
        assert left in ([NEW] if ended else [NEW, OLD])
        old, new = old + (left == OLD), new + (left == NEW)
    assert old >= 3 and new >= 5


def test_a_strangers_list_moves_nothing_from_elsewhere(folder: Path) -> None:
    write_whole(Path("victim"), b"mine")
    write_whole(folder / ".replacement/a.csv", b"new")
    (folder / ".replacement/b.csv").symlink_to(Path("victim").resolve())
    names = ["../../victim", "a.csv", 7, "../victim"]
    write_whole(folder / ".replacement/.whole", json.dumps(names).encode())
    assert Replacement(folder, *PATTERNS).finish()
    assert Path("victim").read_bytes() == b"mine"
    assert (folder / "a.csv").read_bytes() == b"new"


@pytest.fixture
def breaks() -> Iterator[list[str]]:
    """What naive runs into: ``fail``, ``kill``; nothing if empty."""
    naive, way = STRATEGIES["naive"], list[str]()

    class BreakingPlugin(Plugin):
        def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
            if way == ["kill"]:
                os.kill(os.getpid(), signal.SIGKILL)
            if way:
                raise RuntimeError("the plugin broke")

    STRATEGIES["naive"] = [*naive, BreakingPlugin]
    yield way
    STRATEGIES["naive"] = naive


def test_a_result_stays_until_its_repetition_is_whole(
    breaks: list[str], capsys: Capture
) -> None:
    words = [*SMALL, "keep_model=true", "tensorboard=numbers"]
    assert main(["run", "-q", *words]) == 0
    folder = small_run("keep_model=true")
    (folder / "notes.txt").write_text("the user's")
    before = content(folder)
    breaks.append("fail")
    capsys.readouterr()
    assert main(["run", *words, "overwrite=true"]) == 1
    assert "the result from before stays" in capsys.readouterr().out
    assert before.items() <= content(folder).items()
    assert main(["status"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "its repetition failed: RuntimeError: the plugin broke" in said
    breaks[:] = ["kill"]
    pid = forked(lambda: main(["run", "-q", *words, "overwrite=true"]))
    assert exit_code(pid) == -signal.SIGKILL
    assert before.items() <= content(folder).items()
    assert main(["status"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "its repetition was stopped and goes on at iteration" in said
    breaks.clear()
    assert main(["run", "-q", *words, "overwrite=true"]) == 0
    after = content(folder)
    events = [name for name in before if "events.out" in name]
    assert events and not after.keys() & set(events)
    assert {name.rpartition("events.out")[0] for name in after} == {
        name.rpartition("events.out")[0] for name in before
    }
    for name in ("model.pt", "metrics.csv", "accuracy_matrix.csv", "notes.txt"):
        assert after[name] == before[name]
    assert "resumed_at_iterations" in after["env.json"].decode()


def test_a_run_ends_what_a_kill_left_of_its_replacement(capsys: Capture) -> None:
    assert main(["run", "-q", *SMALL]) == 0
    folder = small_run()
    summary = read_completed(folder)
    assert summary is not None
    RunFolder(folder / ".replacement").write_json("summary.json", {**summary, "x": 1})
    write_whole(folder / ".replacement/.whole", json.dumps([*content(folder)]).encode())
    assert main(["status"]) == 0
    assert "cut off at its end: the same command ends it" in capsys.readouterr().out
    assert main(["run", *SMALL]) == 0
    assert "made again" in capsys.readouterr().out
    assert read_completed(folder) == {**summary, "x": 1}
    assert not (folder / ".replacement").exists()
