"""Files are written whole, tensors packed, files deleted by the names kancl gives."""

import contextlib
import io
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
"""Flags of ``os.open``: a link is refused, nothing is written through it."""


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
    import torch  # late: kancl status needs none

    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    return buffer.getvalue()


def unpack(file: BinaryIO) -> dict[str, Any]:
    """Return what was packed. Code in the file is not run: ``weights_only``.

    Raises: ValueError if it is another kind of file, or unpacks to more than it holds.
    """
    import torch

    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
        if sum(part.file_size for part in parts) > file.seek(0, os.SEEK_END):
            raise ValueError("it unpacks to more than it holds")
        file.seek(0)
        content = torch.load(file, weights_only=True)
    except ValueError:
        raise
    except Exception as error:  # whatever a forged file makes the reader do
        raise ValueError(" ".join(str(error).split())[:120]) from error
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}")
    return content


def delete(folder: Path, *patterns: str) -> None:
    """Delete the files in a folder that match, in the order of ``patterns``."""
    for pattern in patterns:
        for path in folder.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
