"""Checkpoints are whole or refused, and nothing in them is run."""

from __future__ import annotations

import hashlib
import json
import pickle
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kancl.runs import WriteError
from kancl.runs.checkpoints import MAGIC, CheckpointFolder, pack

PROVENANCE = {"configuration": "abc", "torch": "2"}
STATE = {"x": torch.arange(3), "list": ["tuple", [1, None, "é"]], "n": 2**60}


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    """With a boundary at iteration 10 and two states inside, at 14 and 18."""
    made = CheckpointFolder(tmp_path / "checkpoint", PROVENANCE)
    made.write(1, 10, {"at": 10}, inside=False)
    made.write(1, 14, {"at": 14}, inside=True)
    made.write(1, 18, STATE, inside=True)
    return made


def latest(folder: CheckpointFolder) -> tuple[list[int], str]:
    said: list[str] = []
    return [point.iteration for point in folder.points(said.append)], "\n".join(said)


def test_what_is_written_is_read_back(folder: CheckpointFolder) -> None:
    points = folder.points(pytest.fail)
    assert [point.iteration for point in points] == [18, 14, 10]
    assert points[0].boundary == {"at": 10} and points[2].inside is None
    state = points[0].inside
    assert state is not None and state["list"] == STATE["list"]
    assert torch.equal(state["x"], STATE["x"]) and state["n"] == 2**60


def test_the_two_newest_are_kept(folder: CheckpointFolder) -> None:
    folder.write(1, 22, {}, inside=True)
    assert latest(folder)[0] == [22, 18, 10]
    folder.write(2, 24, {}, inside=False)
    folder.write(3, 36, {}, inside=False)
    assert [p.name for p in folder.points(lambda text: None)] == [
        "experience-0004.ckpt",
        "experience-0003.ckpt",
    ]
    folder.clear()
    assert not folder.path.exists()


def forged(body: bytes) -> bytes:
    """With the right checksum, as a stranger would have it."""
    return MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


class Bomb:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("pwned"),)


def head(**changes: Any) -> bytes:
    content = {
        "provenance": PROVENANCE,
        "n_experiences_done": 1,
        "iteration": 18,
        **changes,
    }
    return json.dumps(content).encode() + b"\n"


def bombs() -> dict[str, bytes]:
    import io

    zipped = io.BytesIO()
    torch.save({"state": Bomb()}, zipped)
    return {"pickle": pickle.dumps(Bomb()), "torch": zipped.getvalue()}


DAMAGED = {
    "torn": lambda good: good[: len(good) // 2],
    "empty": lambda good: b"",
    "one bit": lambda good: good[:-40] + bytes([good[-40] ^ 1]) + good[-39:],
    "longer": lambda good: good + b"\0",
    "another file": lambda good: b"PK\x03\x04" + good,
    "pickle with a right checksum": lambda good: forged(head() + bombs()["pickle"]),
    "torch file with a right checksum": lambda good: forged(head() + bombs()["torch"]),
    "no head": lambda good: forged(b"\xff\xff"),
    "head of another kind": lambda good: forged(b"[]\n" + pack({})),
    "no state": lambda good: forged(head() + pack({})[:-9]),
    "a number for a state": lambda good: forged(
        head(n_experiences_done="x") + pack({})
    ),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_what_is_not_right_is_refused_by_name(
    folder: CheckpointFolder,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    file = folder.path / "iteration-000000018.ckpt"
    file.write_bytes(DAMAGED[kind](file.read_bytes()))
    found, said = latest(folder)
    assert found == [14, 10]  # the one before
    assert str(file) in said and "refused" in said and said.count("\n") == 0
    assert not (tmp_path / "pwned").exists()


def test_the_bombs_are_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(bombs()["pickle"])
    assert (tmp_path / "pwned").exists()


def test_states_of_another_run_or_program_are_refused(folder: CheckpointFolder) -> None:
    other = CheckpointFolder(folder.path, {**PROVENANCE, "torch": "3"})
    found, said = latest(other)
    assert found == [] and said.count("another torch") == 3


def test_a_state_inside_needs_its_boundary(folder: CheckpointFolder) -> None:
    (folder.path / "experience-0002.ckpt").write_bytes(b"")
    found, said = latest(folder)
    assert found == [] and said.count("of no use without") == 2


@pytest.fixture
def full_disk() -> Iterator[None]:
    """The system takes no file above 1000 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_what_was_there(
    folder: CheckpointFolder, full_disk: None
) -> None:
    with pytest.raises(WriteError, match="Make room for .* same command") as error:
        folder.write(1, 22, {"x": torch.zeros(5000)}, inside=True)
    assert "iteration-000000022.ckpt" in str(error.value)
    assert latest(folder)[0] == [18, 14, 10]
    assert not list(folder.path.glob(".*"))
