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
from contextlib import contextmanager, suppress
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
    while os.fstat(descriptor := _locked(path)).st_nlink == 0:
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
        return _holder(descriptor, path, _flock(descriptor))
    finally:
        os.close(descriptor)


def this_process() -> dict[str, Any]:
    """Identify this process, also from a later one with its number."""
    started = psutil.Process().create_time()
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": started}


def _locked(path: Path) -> int:
    """The descriptor of a lock that nobody else holds."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | NO_LINK, 0o644)
    except (OSError, ValueError) as error:  # ValueError: a null in the name
        why = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"{path.parent} cannot be written to ({why}): set log_dir to a folder that can"
        ) from error
    try:
        locked = _flock(descriptor)
        holder = _holder(descriptor, path, locked)
        if holder is not None:
            ends = f"its lock ends {DEAD_SECONDS:.0f} s after its last sign of life"
            doubt = "" if locked is False else f"; if that is no more, {ends}"
            raise RunLocked(f"{path.parent} is being made by {holder}{doubt}")
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


def _holder(descriptor: int, path: Path, locked: bool | None) -> str | None:
    """Name the living owner in the lock's file, or else whoever has locked it."""
    owner = try_json(path)
    if owner is None:
        return None if locked is not False else "another process"
    if locked is not False:
        seconds = time.time() - os.fstat(descriptor).st_mtime
        if owner.get("host") != socket.gethostname():
            lives = seconds <= DEAD_SECONDS
        else:
            lives = not locked and _lives(owner, seconds)
        if not lives:
            return None
    return f"process {owner.get('pid')} on {owner.get('host')}"


def _lives(owner: dict[str, Any], seconds: float) -> bool:
    """Whether the process of an owner on this machine is still there.

    Args:
        seconds: since it last touched its lock; where its time of start does not fit,
            the clock may have been set meanwhile.
    """
    try:
        started = psutil.Process(owner["pid"]).create_time()
        if abs(started - owner["started"]) < 1:
            return True
    except psutil.NoSuchProcess:
        return False
    except (psutil.Error, KeyError, TypeError, ValueError, OverflowError):
        pass
    return seconds <= DEAD_SECONDS


def _beat(path: Path, stop: threading.Event) -> None:
    with suppress(OSError):
        while not stop.wait(BEAT_SECONDS):
            os.utime(path)
