"""A run folder is held by one process, and by none that is dead."""

from __future__ import annotations

import errno
import os
import socket
import time
from pathlib import Path

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
def test_a_lock_of_another_machine_counts_while_it_is_fresh(tmp_path: Path) -> None:
    pid, path = died_holding(tmp_path)
    here, there = f"host={socket.gethostname()}", "host=elsewhere"
    path.write_text(path.read_text().replace(here, there))
    words = f"process {pid} on elsewhere"
    with pytest.raises(RunLocked, match=f"{words}; if that is no more, its lock ends"):
        with run_lock(tmp_path):
            pass
    assert lock_holder(tmp_path) == words
    then = time.time() - DEAD_SECONDS - 1
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
