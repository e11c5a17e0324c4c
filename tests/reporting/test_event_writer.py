"""TensorBoard's files on a disk that takes no more."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest

from kancl.reporting.tensorboard import EventWriter
from kancl.runs import WriteError


def test_what_is_not_written_is_one_refusal_and_no_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    with EventWriter(folder) as writer:  # what comes late is written
        writer.add_scalar("a", 1.0, 0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    heard = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        with pytest.raises(WriteError, match=f"cannot write {folder}.*Make room"):
            with EventWriter(folder) as writer:
                for k in range(100):
                    writer.add_text("a", "x" * 100, k)
                writer.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, heard)
    assert capfd.readouterr().err == ""
