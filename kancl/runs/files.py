"""Files are written whole, read within bounds, and deleted by the names kancl gives."""

import contextlib
import io
import json
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
"""Flags of ``os.open``: a link is refused, nothing is written through it."""
MOST_JSON, MOST_ROWS = 2**22, 2**27  # bytes; far more than any run writes


class WriteError(OSError):
    """A file cannot be written; the message says what to do."""


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a kill or a power cut leaves the whole of it or none.

    Raises: WriteError if the disk does not take it; what was there before stays.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(part, WRITE, 0o666), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        with contextlib.suppress(PermissionError):  # Windows opens no folder
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)  # a power cut does not take the new name
            os.close(folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise WriteError(
            f"cannot write {path}: {error.strerror or error}; what was written before is "
            f"still there. Make room for {len(data):,} bytes (or set log_dir to another "
            "disk) and give the same command again"
        ) from error


def pack(content: Mapping[str, Any]) -> bytes:
    """Numbers, strings, tensors, lists and dicts alone: reading them runs no code."""
    buffer = io.BytesIO()
    import torch  # late: kancl status needs none

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
        return file.read(most_bytes)


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


def delete(folder: Path, *patterns: str) -> None:
    """Delete the files in a folder that match, in the order of ``patterns``."""
    for pattern in patterns:
        for path in folder.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
