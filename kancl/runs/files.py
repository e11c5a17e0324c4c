"""Files are written whole, tensors packed, files deleted by the names kancl gives."""

import errno
import fnmatch
import glob
import io
import os
import stat
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from kancl.config import ConfigError
from kancl.reading import read_json
from kancl.runs import names

WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
"""Flags of ``os.open``: a file that nobody else has a name for."""
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
    import torch  # late: kancl status needs none

    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    return buffer.getvalue()


def unpack(file: BinaryIO, device: str = "cpu") -> dict[str, Any]:
    """Return what was packed. Code in the file is not run: ``weights_only``.

    Args:
        device: where tensors go that were on a GPU, whichever; the others stay on the CPU.
    Raises: ValueError if it is another kind of file, or unpacks to more than it holds.
    """
    import torch

    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
        if sum(part.file_size for part in parts) > file.seek(0, os.SEEK_END):
            raise ValueError("it unpacks to more than it holds")
        file.seek(0)
        place = torch.serialization.default_restore_location
        content = torch.load(
            file,
            map_location=lambda storage, location: (
                storage if location == "cpu" else place(storage, device)
            ),
            weights_only=True,
        )
    except ValueError:
        raise
    except Exception as error:  # whatever a forged file makes the reader do
        raise ValueError(" ".join(str(error).split())[:120]) from error
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}")
    return content


def files_of_runs(path: Path, name: str) -> set[Path]:
    """All files of a name in and below a folder; links are followed where runs lie."""
    return {*path.rglob(name), *path.glob(f"*/*/*/{name}")}


def folders_called(*words: str | Path) -> list[Path]:
    """The folders that words typed stand for: the one that is there, or by its name below
    ``logs`` that of a comparison or of a run, or those of the seeds of a run.
    """
    return [folder for word in words for folder in _called(Path(word))]


def _called(path: Path) -> list[Path]:
    logs = Path(names.LOGS)
    if path.exists() or len(path.parts) != 1:
        return [path]
    if (compared := logs / names.COMPARISONS / path).exists():
        return [compared]
    name = glob.escape(path.name)
    found = {*logs.glob(f"*/*/{name}"), *logs.glob(f"*/*/{name}-seed[0-9]*")}
    return sorted(f for f in found if (f / names.CONFIG).is_file()) or [path]


def folder_called(word: str | Path) -> Path:
    """The one folder that a word typed stands for.

    Raises: ConfigError if it is the name of several runs.
    """
    folder, *others = folders_called(word)
    if others:
        raise ConfigError(f"{word} names {1 + len(others)} runs; one of them: {folder}")
    return folder


def listed_runs(path: Path, log_dir: Path) -> set[str]:
    """The runs that a file lists, by their paths in ``log_dir``.

    Raises: ConfigError for another kind of file, or a run elsewhere.
    """
    root = log_dir.resolve()
    try:
        runs = read_json(path)["runs"]
        inside = [(log_dir / r).resolve().is_relative_to(root) for r in runs]
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ConfigError(f"{path} is no list of runs: remove it") from error
    if not isinstance(runs, list) or not all(inside):
        raise ConfigError(f"{path} names a folder outside {log_dir}: remove it")
    return set(runs)


def checkpoints_of(run: Path) -> Path:
    """The folder of a run's checkpoints: its own ``checkpoint``. Where the user has made
    that a link to another disk, which others may share, one in it that is named as the run.

    Args:
        run: its folder, or one in it where it is made to replace a finished one.
    """
    whole = run.parent if run.name == names.REPLACEMENT else run
    if (shared := whole / names.CHECKPOINTS).is_symlink():
        return shared / run.relative_to(whole.parent)
    return run / names.CHECKPOINTS


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
