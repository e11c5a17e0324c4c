"""Checkpoints on disk: whole or not at all, and none is believed without its checksum."""

import fnmatch
import hashlib
import io
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kancl.data.checks import free_memory
from kancl.reading import read_bytes
from kancl.runs import names
from kancl.runs.files import (
    WriteError,
    delete,
    entries,
    own_folder,
    pack,
    unpack,
    write_whole,
)

MAGIC = b"kancl checkpoint 1\n"


@dataclass(frozen=True)
class ResumePoint:
    """Where a run can be resumed."""

    name: str
    iteration: int
    n_experiences_done: int
    boundary: Mapping[str, Any]  # the state before the next training
    inside: Mapping[str, Any] | None  # the state in its midst; None: at its boundary


class CheckpointFolder:
    """The checkpoints of one run: states at experience boundaries and inside experiences.

    A state inside an experience needs that of the boundary where the experience begins.
    The two newest of each are kept.

    Args:
        provenance: what must be the same for a run to be resumed to the same bytes.
        device: of the run, which need not be the GPU that it began on.
    """

    def __init__(
        self, path: Path, provenance: Mapping[str, Any], device: str = "cpu"
    ) -> None:
        self.path, self._provenance = path, dict(provenance)
        self._device = device

    def write(
        self, n_experiences_done: int, iteration: int, state: Any, *, inside: bool
    ) -> None:
        """Write the state inside an experience, or at the boundary where it begins."""
        place = {"n_experiences_done": n_experiences_done, "iteration": iteration}
        head = {"provenance": self._provenance, **place}
        name, number = names.BOUNDARY, f"{n_experiences_done + 1:04d}"
        if inside:
            name, number = names.INSIDE, f"{iteration:09d}"
        body = json.dumps(head).encode() + b"\n" + pack(state)
        path = own_folder(self.path) / name.replace("*", number)
        write_whole(path, MAGIC + _digest(body) + b"\n" + body)
        written = fnmatch.filter(entries(self.path), name)
        with suppress(WriteError):  # an old one too many does no harm
            delete(self.path, *sorted(written)[:-2])

    def points(self, say: Callable[[str], None]) -> list[ResumePoint]:
        """Where the run can be resumed, the latest first; ``say`` hears of refusals."""
        boundaries: dict[int, Mapping[str, Any]] = {}
        points = []
        # Those from before the user moved the folder lie beside that of the run.
        folders = [self.path, *[p for p in [*self.path.parents][:2] if p.is_symlink()]]
        for pattern in (names.BOUNDARY, names.INSIDE):
            for path in sorted(found for f in folders for found in f.glob(pattern)):
                try:
                    n_done, iteration, state = self._read(path)
                    inside = state if pattern == names.INSIDE else None
                    boundary = state if inside is None else boundaries[n_done]
                except ValueError as refused:
                    say(str(refused))
                except KeyError:
                    begins = "without the checkpoint where its experience begins"
                    say(f"{path} is of no use {begins}")
                else:
                    boundaries[n_done] = boundary
                    at = path.name, iteration, n_done
                    points.append(ResumePoint(*at, boundary, inside))
        return sorted(points, key=lambda p: (p.iteration, p.inside is None))[::-1]

    def clear(self) -> None:
        """Remove what is there."""
        delete(self.path, names.BOUNDARY, names.INSIDE, names.PARTS)
        with suppress(OSError):  # others' files are in it, or there is none
            self.path.rmdir()

    def _read(self, path: Path) -> tuple[int, int, Mapping[str, Any]]:
        """Raises: ValueError if it is no whole, unaltered checkpoint of this run."""
        try:
            data = read_bytes(path, free_memory() // 2)  # unpacked, it is there twice
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise ValueError(f"{path} cannot be read: {why}") from error
        digest, _, body = data[len(MAGIC) :].partition(b"\n")
        if not data.startswith(MAGIC):
            raise ValueError(
                f"{path} is no checkpoint of this version of kancl: refused"
            )
        if _digest(body) != digest:
            why = "is torn or was altered (its checksum is wrong): refused"
            raise ValueError(f"{path} {why}")
        try:
            text, _, packed = body.partition(b"\n")
            head = json.loads(text)
            provenance = dict(head["provenance"])
            n_done, iteration = int(head["n_experiences_done"]), int(head["iteration"])
            state = unpack(io.BytesIO(packed), self._device)
        except Exception as error:  # whatever a forged file makes the reader do
            why = " ".join(str(error).split())[:120]
            raise ValueError(f"{path} is no plain state: refused ({why})") from error
        ours = self._provenance.items()
        if unlike := [key for key, value in ours if provenance.get(key) != value]:
            why = "going on would not give the same bytes"
            raise ValueError(
                f"{path} was made with another {', another '.join(unlike)}: {why}"
            )
        return n_done, iteration, state


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()
