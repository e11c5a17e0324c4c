"""Files are written whole, read within bounds, and deleted by the names kancl gives."""

import errno
import fnmatch
import io
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from kancl.config import ConfigError

WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
"""Flags of ``os.open``: a file that nobody else has a name for."""
MOST_JSON, MOST_ROWS = 2**22, 2**27  # bytes; far more than any run writes
MOST_STATE = 2**36  # of a checkpoint
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


class WriteError(OSError, ConfigError):
    """Something cannot be written; the message says what, and what to do."""


@contextmanager
def writing(path: Path, n_bytes: int | None = None) -> Iterator[None]:
    """Raises: WriteError, with the path and a remedy, for what goes wrong inside."""
    try:
        yield
    except WriteError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a null in the name
        code, remedy = getattr(error, "errno", None), "Look after the disk"
        if code in _FULL:
            remedy = "Make room" + (f" for {n_bytes:,} bytes" if n_bytes else "")
        elif code in _FORBIDDEN:
            remedy = "Allow writing there"
        why = getattr(error, "strerror", None) or error
        raise WriteError(
            f"cannot write {path}: {why}; what was written before is "
            f"still there. {remedy}, or name a folder on another disk, and give the same "
            "command again"
        ) from error


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a kill or a power cut leaves the whole of it or none.

    A link of that name gives way to the file; what it leads to stays as it is.

    Raises: WriteError if the disk does not take it; what was there before stays.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path, len(data)):
        check_place(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.unlink(missing_ok=True)
            with open(os.open(part, WRITE, 0o666), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except OSError:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        sync(path.parent)  # a power cut does not take the new name


def sync(path: Path) -> None:
    """Have the disk keep a file, or the names in a folder."""
    with suppress(PermissionError):  # Windows opens no folder
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_place(*paths: Path) -> None:
    """Raises: WriteError for a path at which there is neither nothing nor a file."""
    for path in paths:
        with suppress(FileNotFoundError, NotADirectoryError):
            mode = path.lstat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
                kind = _KINDS.get(stat.S_IFMT(mode), "a device")
                raise WriteError(
                    f"{path} is {kind} where kancl writes a file: move it away"
                )


def own_folder(path: Path, may_be_moved: bool = False) -> Path:
    """Make a folder in which files are replaced and deleted; the same path.

    The folders above it may be links.

    Args:
        may_be_moved: it may be a link to a folder of its own name, on another disk.

    Raises: WriteError for another link, or where it cannot be made.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    moved = may_be_moved and path.resolve().name == path.name
    if path.is_symlink() and not moved:
        raise WriteError(
            f"{path} is a link to {path.resolve()}, in which kancl would replace files: "
            "remove the link, or name the folder itself"
        )
    return path


def pack(content: Mapping[str, Any]) -> bytes:
    """Numbers, strings, tensors, lists and dicts alone: reading them runs no code."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    return buffer.getvalue()


def read_whole(path: Path, most_bytes: int) -> bytes:
    """Read a regular file.

    Raises: OSError if it cannot be read; ValueError if it is no regular file, or larger
        than ``most_bytes``.
    """
    # Opening a pipe would wait for its writer.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path.name} is no regular file")
        if status.st_size > most_bytes:
            why = f"more than {most_bytes:,} bytes"
            raise ValueError(f"{path.name} is too large: {why}")
        return file.read(status.st_size)


def read_json(path: Path) -> dict[str, Any]:
    """Read keys with values.

    Raises: OSError, ValueError or RecursionError for anything else.
    """
    content = json.loads(read_whole(path, MOST_JSON))
    if not isinstance(content, dict):
        raise ValueError(f"expected keys with values, got {type(content).__name__}")
    return content


def try_json(path: Path) -> dict[str, Any] | None:
    """``read_json``; None for anything else."""
    try:
        return read_json(path)
    except (OSError, ValueError, RecursionError):
        return None


def entries(folder: Path) -> list[str]:
    """Paths of all files and links in and below a folder, within it; no link is followed."""
    found = []
    for parent, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        found += [Path(parent, name).relative_to(folder) for name in files + links]
    return sorted(path.as_posix() for path in found)


def delete(folder: Path, *patterns: str, but: Iterable[str] = ()) -> None:
    """Delete the files in a folder that match, in the order of ``patterns``, and
    subfolders that are empty then. Links go as such.

    Args:
        patterns: of paths within the folder, where ``*`` stands for ``/``, too.
        but: paths that stay.
    Raises: WriteError.
    """
    there, kept = entries(folder), set(but)
    for pattern in patterns:
        for name in fnmatch.filter(there, pattern):
            if name not in kept:
                kept.add(name)
                path = folder / name
                with writing(path):
                    path.unlink(missing_ok=True)
                for parent in [*path.parents][: name.count("/")]:
                    with suppress(OSError):
                        parent.rmdir()
