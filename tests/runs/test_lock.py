"""A run folder is held by one process, and by none that is dead."""

from __future__ import annotations

import errno
import os
import random
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kancl.runs import RunLocked, lock, lock_holder, run_lock
from kancl.runs.lock import DEAD_SECONDS


def died_holding(folder: Path) -> tuple[int, Path]:
    """The number of a process that died inside, and the lease it left."""
    pid = os.fork()
    if pid == 0:
        try:
            with run_lock(folder):
                os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    return pid, folder / ".lock"


@pytest.fixture(params=[None, errno.ENOLCK, errno.ENOSYS], ids=["flock", "no", "none"])
def _flock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the operating system's locks, and on file systems that have none."""

    def unsupported(*arguments: object, **options: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    if request.param is not None:
        monkeypatch.setattr(lock, "FileLock", unsupported)


@pytest.mark.usefixtures("_flock")
def test_a_lock_is_one_process_wide(tmp_path: Path) -> None:
    with run_lock(tmp_path):
        with pytest.raises(RunLocked, match=f"process {os.getpid()} on"):
            with run_lock(tmp_path):
                pass
        assert lock_holder(tmp_path) is not None
    assert lock_holder(tmp_path) is None and not list(tmp_path.iterdir())


@pytest.mark.usefixtures("_flock")
@pytest.mark.parametrize("ahead", [-DEAD_SECONDS - 1, 10 * 365 * 86400])
def test_a_lock_of_another_machine_counts_while_it_is_fresh(
    tmp_path: Path, ahead: float
) -> None:
    pid, path = died_holding(tmp_path)
    here, there = f"host={socket.gethostname()}", "host=elsewhere"
    path.write_text(path.read_text().replace(here, there))
    words = f"process {pid} on elsewhere"
    with pytest.raises(RunLocked, match=f"{words}; if that is no more, its lock ends"):
        with run_lock(tmp_path):
            pass
    assert lock_holder(tmp_path) == words
    then = time.time() + ahead
    os.utime(path, (then, then))
    assert lock_holder(tmp_path) is None
    with run_lock(tmp_path):
        assert f"pid={os.getpid()}\n" in path.read_text()


@pytest.mark.usefixtures("_flock")
def test_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    _, path = died_holding(tmp_path)
    assert lock_holder(tmp_path) is None and path.exists()
    with run_lock(tmp_path):
        assert (
            lock_holder(tmp_path) == f"process {os.getpid()} on {socket.gethostname()}"
        )


@pytest.mark.parametrize("content", ["", "{", "host=\0", "pid=x\nhost=elsewhere\n"])
def test_a_torn_lock_is_nobodys(tmp_path: Path, content: str) -> None:
    (tmp_path / ".lock").write_text(content)
    (tmp_path / ".lock.machine").touch()
    assert lock_holder(tmp_path) is None
    with run_lock(tmp_path):
        assert lock_holder(tmp_path) is not None


def test_who_dies_before_its_name_is_written_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "TORN_SECONDS", 0.05)
    (tmp_path / ".lock.turn").touch()
    with run_lock(tmp_path):
        assert lock_holder(tmp_path) is not None
    assert not (tmp_path / ".lock.turn").exists()


def test_the_owner_gives_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    path, deadline = tmp_path / ".lock", time.monotonic() + 60
    with run_lock(tmp_path):
        os.utime(path, (1, 1))
        while path.stat().st_mtime == 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_clock_that_is_wrong_here_ends_nobodys_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, path = died_holding(tmp_path)
    here, there = f"host={socket.gethostname()}", "host=elsewhere"
    path.write_text(path.read_text().replace(here, there))
    monkeypatch.setattr(lock.time, "time", lambda: 1.0)
    with pytest.raises(RunLocked), run_lock(tmp_path):
        pass


def test_to_look_takes_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    died_holding(tmp_path)
    before = [(p.name, p.stat().st_mtime_ns) for p in (tmp_path, *tmp_path.iterdir())]
    monkeypatch.setattr(lock, "FileLock", None)
    monkeypatch.setattr(lock, "SoftFileLease", None)
    assert lock_holder(tmp_path) is None
    after = [(p.name, p.stat().st_mtime_ns) for p in (tmp_path, *tmp_path.iterdir())]
    assert after == before


def race(folder: Path, n_processes: int) -> int:
    """How many hold a dead one's lock at once: without flock, on a slow disk."""
    died_holding(folder)
    (started, start), (told, tell), (ended, end) = (os.pipe() for _ in range(3))
    pids = []
    for _ in range(n_processes):
        if pid := os.fork():
            pids.append(pid)
            continue
        try:
            slow_down()
            os.close(start), os.close(end)
            os.read(started, 1)  # until all are there
            with run_lock(folder):
                os.write(tell, b"+")
                os.read(ended, 1)
        except RunLocked:
            os.write(tell, b"-")
        finally:
            os._exit(0)
    os.close(start)
    answers = b"".join(os.read(told, 1) for _ in pids)
    os.close(end)
    for pid in pids:
        os.waitpid(pid, 0)
    for descriptor in (started, told, tell, ended):
        os.close(descriptor)
    return answers.count(b"+")


def slow_down() -> None:
    """In this process there is no flock, and every change of a folder takes its time."""
    chance, unlink = random.Random(os.getpid()), os.unlink

    def slowly(call: Callable[..., Any]) -> Callable[..., Any]:
        def slow(*arguments: Any, **options: Any) -> Any:
            time.sleep(chance.random() * (0.05 if call is unlink else 0.002))
            return call(*arguments, **options)

        return slow

    def unsupported(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    lock.FileLock = unsupported  # type: ignore[assignment, misc]
    for name in ("open", "unlink", "rename", "replace", "write", "lstat"):
        setattr(os, name, slowly(getattr(os, name)))


N_RACES = [1, pytest.param(100, marks=pytest.mark.proof)]


@pytest.mark.parametrize("n_races", N_RACES)
@pytest.mark.parametrize("n_processes", [2, 4])
def test_of_many_at_once_one_holds(
    tmp_path: Path, n_processes: int, n_races: int
) -> None:
    holders = [race(tmp_path / str(n), n_processes) for n in range(n_races)]
    doubles = sum(n > 1 for n in holders)
    print(f"\n{n_processes} processes: {doubles} of {n_races} races had two holders")
    assert holders == [1] * n_races
