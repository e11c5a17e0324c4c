"""One process per run folder: a lock that a dead process cannot keep."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from kancl.config import ConfigError
from kancl.runs.files import read_json
from kancl.runs.names import LOCK

try:
    import fcntl
except ImportError:  # Windows: the owner's process and heartbeat decide
    fcntl = None  # type: ignore[assignment]

BEAT_SECONDS = 15.0
"""The owner touches its lock so often."""
DEAD_SECONDS = 120.0
"""A lock of another machine that was not touched for so long has no owner any more."""

_UNSUPPORTED = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


class RunLocked(RuntimeError):
    """Another process makes this run; the message says which."""


class RunLock:
    """Hold a run folder.

    On one machine the operating system's ``flock`` decides, which ends with its process,
    however that ends. A network file system may keep flock to each machine: so the file
    says who its owner is, and its owner touches it every 15 s; another machine's lock
    counts for as long as it is fresh.

    Raises: on entering, RunLocked if another process holds it; ConfigError if the folder
        cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self._descriptor = -1
        self._stop = threading.Event()

    def __enter__(self) -> RunLock:
        while True:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            except (OSError, ValueError) as error:  # ValueError: a null in the name
                why = getattr(error, "strerror", None) or error
                raise ConfigError(
                    f"{self.path.parent} cannot be written to ({why}): set log_dir to a "
                    "folder that can"
                ) from error
            try:
                self._take(descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            if _is_at(descriptor, self.path):  # its last owner may just have removed it
                break
            os.close(descriptor)
        self._descriptor = descriptor
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(this_process()).encode(), 0)
        self._stop.clear()
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self.path.unlink(missing_ok=True)
        os.close(self._descriptor)  # ends flock

    def _take(self, descriptor: int) -> None:
        locked, owner = _flock(descriptor), _owner(self.path)
        if _is_free(self.path, locked, owner):
            return
        message = f"{self.path.parent} is being made by {_words(owner)}"
        if locked is not False:
            message += (
                "; if that is no more, its lock ends "
                f"{DEAD_SECONDS:.0f} s after its last sign of life"
            )
        raise RunLocked(message)

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            try:
                os.utime(self.path)
            except OSError:
                return


def lock_holder(folder: Path) -> str | None:
    """Say who makes the run of a folder now; None if nobody does.

    Nothing is created or changed.
    """
    path = folder / LOCK
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return None
    try:
        locked, owner = _flock(descriptor), _owner(path)
    finally:
        os.close(descriptor)
    return None if _is_free(path, locked, owner) else _words(owner)


def this_process() -> dict[str, Any]:
    """Identify this process, also from a later one with its number."""
    process = psutil.Process()
    started = process.create_time()
    return {"host": socket.gethostname(), "pid": process.pid, "started": started}


def _flock(descriptor: int) -> bool | None:
    """Whether it could be locked; None where there is no such thing."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return None
        raise
    return True


def _is_free(path: Path, locked: bool | None, owner: dict[str, Any] | None) -> bool:
    if locked is False:
        return False
    if owner is None:
        return True
    if owner.get("host") == socket.gethostname():
        return locked is True or not _lives(owner, path)
    return _seconds_untouched(path) > DEAD_SECONDS


def _lives(owner: dict[str, Any], path: Path) -> bool:
    """Whether the process of an owner on this machine is still there.

    A clock that was set meanwhile moves the time at which it started.
    """
    try:
        started = psutil.Process(owner["pid"]).create_time()
        same = abs(started - owner["started"]) < 1
    except (psutil.AccessDenied, KeyError, TypeError, ValueError, OverflowError):
        same = False
    except psutil.NoSuchProcess:
        return False
    return same or _seconds_untouched(path) <= DEAD_SECONDS


def _seconds_untouched(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return float("inf")


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _owner(path: Path) -> dict[str, Any] | None:
    try:
        return read_json(path)
    except (OSError, ValueError, RecursionError):
        return None


def _words(owner: dict[str, Any] | None) -> str:
    if owner is None:
        return "another process"
    return f"process {owner.get('pid')} on {owner.get('host')}"
