"""The doctor looks at a real machine, and says what to do where it finds something."""

from __future__ import annotations

from pathlib import Path

import pytest

from kancl.cli import main
from kancl.config import Group
from kancl.runner import doctor
from kancl.runner.registry import GROUPS

Capture = pytest.CaptureFixture[str]


def test_all_is_well_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["doctor"]) == 0
    told = capsys.readouterr().out
    assert "!!" not in told and "checksums right" in told and "MB/s" in told
    assert told.count("a tiny run completed") == len(GROUPS["model"].names)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_is_wrong_comes_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    needed = ["scipy>=999", "no-such-thing>=1", "numpy", "nothing; extra == 'x'"]
    monkeypatch.setattr(doctor, "requires", lambda package: needed)
    none = Group("model", {}, presets=dict)
    monkeypatch.setitem(GROUPS, "model", none)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (raw / f"{part}-{kind}-ubyte").write_bytes(b"torn")
    words = ["doctor", "--log-dir", "/dev/null/logs", "--data-dir", str(tmp_path)]
    assert main(words) == 1
    told = capsys.readouterr().out
    assert "-> pip install 'scipy>=999'" in told and "ok numpy " in told
    assert "!! no-such-thing   not installed" in told
    assert "train-images-idx3-ubyte is damaged" in told and "delete it" in told
    assert (
        "/dev/null/logs: not writable" in told
        and "name a folder on another disk" in told
    )
    assert "4 to be mended" in told
