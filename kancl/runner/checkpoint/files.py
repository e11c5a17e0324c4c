"""Checkpoints on disk: whole or not at all, and none is believed without its checksum."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kancl.runs.files import write_whole

MAGIC = b"kancl checkpoint 1\n"
SUFFIX = ".ckpt"


class Refused(ValueError):
    """A file is no whole, unaltered checkpoint of this run; the message names it."""


def pack(content: Mapping[str, Any]) -> bytes:
    """Numbers, strings, tensors, lists and dicts as bytes."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, Any]:
    """The same again. Code in ``data`` is not run: ``weights_only``."""
    content = torch.load(io.BytesIO(data), weights_only=True)
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}")
    return content


@dataclass(frozen=True)
class Point:
    """Where a run can go on.

    Args:
        border: the state before the training of experience ``n_trained``.
        inside: the state in the midst of that training; None: at its border.
    """

    name: str
    iteration: int
    n_trained: int
    border: Mapping[str, Any]
    inside: Mapping[str, Any] | None


class CheckpointFolder:
    """The checkpoints of one run: states at borders and inside experiences.

    A state inside an experience refers to the border where that experience begins: the
    two together are a point to go on from. The two newest of each are kept.

    Args:
        made_by: what must be the same for a run to go on to the same bytes.
    """

    def __init__(self, path: Path, made_by: Mapping[str, Any]) -> None:
        self.path = path
        self._made_by = dict(made_by)

    def write_border(
        self, n_trained: int, iteration: int, state: Mapping[str, Any]
    ) -> None:
        name = f"experience-{n_trained + 1:04d}{SUFFIX}"
        self._write(name, n_trained, iteration, state)
        self._prune("experience-*")

    def write_inside(
        self, n_trained: int, iteration: int, state: Mapping[str, Any]
    ) -> None:
        name = f"iteration-{iteration:09d}{SUFFIX}"
        self._write(name, n_trained, iteration, state)
        self._prune("iteration-*")

    def points(self, say: Callable[[str], None]) -> list[Point]:
        """Where the run can go on, the latest first.

        Args:
            say: hears of each file that is refused, and why.
        """
        borders: dict[int, tuple[int, Mapping[str, Any]]] = {}
        points: list[Point] = []
        for path in sorted(self.path.glob(f"experience-*{SUFFIX}")):
            read = self._try(path, say)
            if read is not None:
                n_trained, iteration, state = read
                borders[n_trained] = iteration, state
                points.append(Point(path.name, iteration, n_trained, state, None))
        for path in sorted(self.path.glob(f"iteration-*{SUFFIX}")):
            read = self._try(path, say)
            if read is None:
                continue
            n_trained, iteration, state = read
            if n_trained not in borders:
                say(
                    f"{path} is of no use without the checkpoint where its experience "
                    "begins"
                )
                continue
            border = borders[n_trained][1]
            points.append(Point(path.name, iteration, n_trained, border, state))
        return sorted(points, key=lambda p: (p.iteration, p.inside is None))[::-1]

    def clear(self) -> None:
        """Remove what is there."""
        for file in [*self.path.glob(f"*{SUFFIX}"), *self.path.glob(".*.part")]:
            if file.is_dir() and not file.is_symlink():
                shutil.rmtree(file)
            else:
                file.unlink(missing_ok=True)
        if self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()

    def _write(
        self, name: str, n_trained: int, iteration: int, state: Mapping[str, Any]
    ) -> None:
        head = {"made_by": self._made_by, "n_trained": n_trained}
        text = json.dumps({**head, "iteration": iteration}).encode()
        body = text + b"\n" + pack(state)
        write_whole(self.path / name, MAGIC + _digest(body) + b"\n" + body)

    def _try(
        self, path: Path, say: Callable[[str], None]
    ) -> tuple[int, int, Mapping[str, Any]] | None:
        try:
            return self._read(path)
        except Refused as refused:
            say(str(refused))
            return None

    def _read(self, path: Path) -> tuple[int, int, Mapping[str, Any]]:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise Refused(f"{path} cannot be read: {error.strerror}") from error
        digest, _, body = data[len(MAGIC) :].partition(b"\n")
        if not data.startswith(MAGIC):
            raise Refused(f"{path} is no checkpoint of this version of kancl: refused")
        if _digest(body) != digest:
            raise Refused(
                f"{path} is torn or was altered (its checksum is wrong): refused"
            )
        try:
            text, _, packed = body.partition(b"\n")
            head = json.loads(text)
            made_by = dict(head["made_by"])
            n_trained, iteration = int(head["n_trained"]), int(head["iteration"])
            state = unpack(packed)
        except Exception as error:  # whatever a forged file makes the reader do
            why = " ".join(str(error).split())[:120]
            raise Refused(f"{path} is no plain state: refused ({why})") from error
        unlike = [
            key for key, value in self._made_by.items() if made_by.get(key) != value
        ]
        if unlike:
            raise Refused(
                f"{path} was made with another {', another '.join(unlike)}: going on "
                "would not give the same bytes"
            )
        return n_trained, iteration, state

    def _prune(self, pattern: str) -> None:
        for old in sorted(self.path.glob(pattern + SUFFIX))[:-2]:
            old.unlink(missing_ok=True)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()
