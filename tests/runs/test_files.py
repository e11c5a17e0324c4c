"""Files are whole, and a stranger's neither stall a reader nor misdirect a writer."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from kancl.config import ConfigError
from kancl.runs import (
    RunFolder,
    lock_holder,
    read_run,
    run_lock,
    write_whole,
)


def test_no_half_of_a_file_is_ever_seen(tmp_path: Path) -> None:
    """A process that writes again and again is killed: old or new, never between."""
    path = tmp_path / "file"
    write_whole(path, b"0" * 100_000)
    for kill in range(2):
        pid = os.fork()
        if pid == 0:
            for k in range(10**6):
                write_whole(path, str(k % 10).encode() * 100_000)
        for _ in range(100 * kill + 10):
            content = path.read_bytes()
            assert len(content) == 100_000 and len(set(content)) == 1
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        content = path.read_bytes()
        assert len(content) == 100_000 and len(set(content)) == 1


@pytest.mark.parametrize(
    "name", ["config.yaml", "env.json", "summary.json", "metrics.csv", ".lock"]
)
def test_a_pipe_in_a_run_folder_stalls_no_reader(
    name: str, plant: Callable[..., list[Path]]
) -> None:
    (folder,) = plant("model=kan", outcome=lambda config: (0.9, 0.5))
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    run = read_run(folder)
    assert run.completed if name == ".lock" else name in run.problems[0]
    assert lock_holder(folder) is None


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "run"
    victim.write_text("thesis")
    folder.mkdir()
    part = f".metrics.csv.{os.getpid()}.part"
    links = (part, ".lock.machine", ".lock", "metrics.csv", "events.out.x")
    for name in links:
        (folder / name).symlink_to(victim)
    write_whole(folder / "metrics.csv", b"x")
    os.link(victim, folder / part)
    os.link(victim, folder / "env.json")
    write_whole(folder / "metrics.csv", b"y")
    assert (folder / "metrics.csv").read_bytes() == b"y"
    with pytest.raises(ConfigError, match="cannot be written to"):
        with run_lock(folder):
            pass
    (folder / ".lock.machine").unlink()
    with run_lock(folder):
        assert lock_holder(folder) is not None
    RunFolder(folder).start({"seed": 0}, {})
    RunFolder(folder).write_metrics([])
    assert victim.read_text() == "thesis"
    assert not [path for path in folder.iterdir() if path.is_symlink()]
