"""One process per run folder: a lock that a dead process can't keep."""

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

from kancl.config import ConfigError

try:
    import fcntl
except ImportError:  # Windows: by heartbeat alone
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"
BEAT_SECONDS = 15.0
"""The owner touches its lock so often."""
DEAD_SECONDS = 120.0
"""A lock of another machine that was not touched for so long has no owner any more."""

_HAS_PIDS = os.name == "posix"
_UNSUPPORTED = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


class Held(RuntimeError):
    """Another process makes this run; the message says which."""


class RunLock:
    """Hold a run folder.

    On one machine the operating system's ``flock`` decides, which ends with its process,
    however that ends. A network file system may keep flock to each machine: so the file
    says whose it is, and its owner touches it every 15 s; another machine's lock counts
    for as long as it is fresh.

    Raises: on entering, Held if another process holds it; ConfigError if the folder
        cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
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
        os.pwrite(descriptor, json.dumps(_me()).encode(), 0)
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
        os.close(self._descriptor)  # and with it goes flock

    def _take(self, descriptor: int) -> None:
        locked = _flock(descriptor)
        owner = _owner(self.path)
        if locked is False:
            raise Held(f"{self.path.parent} is being made by {_words(owner)}")
        if owner is None or (locked and owner.get("host") == socket.gethostname()):
            return  # nobody's, or that of a process of this machine that has died
        if locked is None and owner.get("host") == socket.gethostname() and _HAS_PIDS:
            if not _lives(owner):
                return
        elif _age(self.path) > DEAD_SECONDS:
            return
        raise Held(
            f"{self.path.parent} is being made by {_words(owner)}; if that is no more, "
            f"its lock ends {DEAD_SECONDS:.0f} s after its last sign of life"
        )

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            try:
                os.utime(self.path)
            except OSError:
                return


def holder(folder: Path) -> str | None:
    """Who makes the run of a folder now, in words; None if nobody does.

    Looks only: nothing is created or changed.
    """
    path = folder / NAME
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        locked, owner = _flock(descriptor), _owner(path)
    finally:
        os.close(descriptor)
    if locked is False:
        return _words(owner)
    if owner is None or (_HAS_PIDS and owner.get("host") == socket.gethostname()):
        alive = locked is None and owner is not None and _lives(owner)
    else:
        alive = _age(path) <= DEAD_SECONDS
    return _words(owner) if alive else None


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


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        here, there = os.fstat(descriptor), path.stat()
    except FileNotFoundError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _me() -> dict[str, Any]:
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "started": _started(pid)}


def _owner(path: Path) -> dict[str, Any] | None:
    try:
        owner = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return owner if isinstance(owner, dict) else None


def _started(pid: int) -> str | None:
    """Tells a process from a later one of the same number, where /proc does."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _lives(owner: dict[str, Any]) -> bool:
    pid = owner.get("pid")
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return _started(pid) == owner.get("started")


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return float("inf")


def _words(owner: dict[str, Any] | None) -> str:
    if owner is None:
        return "another process"
    return f"process {owner.get('pid')} on {owner.get('host')}"
