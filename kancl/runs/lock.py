"""One process per run folder: a lock that a dead process cannot keep.

On one machine the operating system's ``flock`` decides, which ends with its process,
however that ends. A network file system may keep flock to each machine: so the file says
who its owner is, and its owner touches it every 15 s; another machine's lock counts for
as long as it is fresh.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from kancl.config import ConfigError
from kancl.runs.files import NO_LINK, try_json
from kancl.runs.names import LOCK

try:
    import fcntl
except ImportError:  # Windows: the owner's process and heartbeat decide
    fcntl = None  # type: ignore[assignment]

BEAT_SECONDS = 15.0
DEAD_SECONDS = 120.0
"""A lock of another machine that was not touched for so long has no owner any more."""

_UNSUPPORTED = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


class RunLocked(RuntimeError):
    """Another process makes this run; the message says which."""


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold a run folder inside.

    Raises: RunLocked if another process holds it; ConfigError if the folder cannot be
        made.
    """
    path, stop = folder / LOCK, threading.Event()
    while os.fstat(descriptor := _take(path)).st_nlink == 0:
        os.close(descriptor)  # the last owner has just removed this file
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps(this_process()).encode())
        threading.Thread(target=_beat, args=(path, stop), daemon=True).start()
        yield
    finally:
        stop.set()
        path.unlink(missing_ok=True)
        os.close(descriptor)  # ends flock


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
        locked, owner = _flock(descriptor), try_json(path)
    finally:
        os.close(descriptor)
    return None if _is_free(path, locked, owner) else _words(owner)


def this_process() -> dict[str, Any]:
    """Identify this process, also from a later one with its number."""
    started = psutil.Process().create_time()
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": started}


def _take(path: Path) -> int:
    """Open the lock's file and lock it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | NO_LINK, 0o644)
    except (OSError, ValueError) as error:  # ValueError: a null in the name
        why = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"{path.parent} cannot be written to ({why}): set log_dir to a folder that can"
        ) from error
    try:
        locked, owner = _flock(descriptor), try_json(path)
        if not _is_free(path, locked, owner):
            message = f"{path.parent} is being made by {_words(owner)}"
            if locked is not False:
                message += (
                    "; if that is no more, its lock ends "
                    f"{DEAD_SECONDS:.0f} s after its last sign of life"
                )
            raise RunLocked(message)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


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
    if locked is False or owner is None:
        return locked is not False
    if owner.get("host") == socket.gethostname():
        return locked is True or not _lives(owner, path)
    return _seconds_untouched(path) > DEAD_SECONDS


def _lives(owner: dict[str, Any], path: Path) -> bool:
    """Whether the process of an owner on this machine is still there."""
    try:
        started = psutil.Process(owner["pid"]).create_time()
        if abs(started - owner["started"]) < 1:
            return True
    except psutil.NoSuchProcess:
        return False
    except (psutil.Error, KeyError, TypeError, ValueError, OverflowError):
        pass
    return _seconds_untouched(path) <= DEAD_SECONDS  # the clock may have been set


def _seconds_untouched(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return float("inf")


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(BEAT_SECONDS):
        try:
            os.utime(path)
        except OSError:
            return


def _words(owner: dict[str, Any] | None) -> str:
    if owner is None:
        return "another process"
    return f"process {owner.get('pid')} on {owner.get('host')}"
