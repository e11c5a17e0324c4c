"""A run folder is held by one process, and by none that is dead."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from kancl.runs import RunLocked, lock, lock_holder, run_lock
from kancl.runs.lock import DEAD_SECONDS


def test_a_lock_is_one_process_wide(tmp_path: Path) -> None:
    with run_lock(tmp_path):
        with pytest.raises(RunLocked, match=f"process {os.getpid()} on"):
            with run_lock(tmp_path):
                pass
        assert lock_holder(tmp_path) is not None
    assert lock_holder(tmp_path) is None and not list(tmp_path.iterdir())


@pytest.mark.parametrize("supported", [True, False])
def test_a_lock_of_another_machine_counts_while_it_is_fresh(
    tmp_path: Path, supported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not supported:
        monkeypatch.setattr(lock, "fcntl", None)
    path = tmp_path / ".lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": None}))
    with pytest.raises(RunLocked, match="process 1 on elsewhere; if that is no more"):
        with run_lock(tmp_path):
            pass
    assert lock_holder(tmp_path) == "process 1 on elsewhere"
    then = time.time() - DEAD_SECONDS - 1
    os.utime(path, (then, then))
    assert lock_holder(tmp_path) is None
    with run_lock(tmp_path):
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_without_flock_a_dead_process_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "fcntl", None)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    owner = {**lock.this_process(), "pid": pid}
    (tmp_path / ".lock").write_text(json.dumps(owner))
    with run_lock(tmp_path):
        assert lock_holder(tmp_path) is not None
