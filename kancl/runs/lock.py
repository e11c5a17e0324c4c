"""One process per run folder: a lock that a dead process cannot keep.

On one machine the operating system's lock decides, which ends with its process, however
that ends. A network file system may keep such locks to each machine: so a lease, which
its owner renews every 15 s, says who that is, and counts for as long as it is fresh.
Leases are made one at a time, or two processes that find a dead one each remove it, and
the second that of the first.
"""

import errno
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
from filelock import FileLock, SoftFileLease, Timeout

from kancl.config import ConfigError
from kancl.reading import read_bytes
from kancl.runs.names import LOCK, LOCK_TURN, MACHINE_LOCK

BEAT_SECONDS, DEAD_SECONDS = 15.0, 120.0
"""A lease is renewed so often; another machine's older one has no owner any more."""
TURN_SECONDS = 10.0
"""To make or remove a lease takes a moment; who dies in it is waited for so long."""
TORN_SECONDS = 2.0
"""A lease that stays empty so long has no owner: it died before it wrote its name."""
_UNSUPPORTED = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


class RunLocked(ConfigError, RuntimeError):
    """Another process makes this run; the message says which."""


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold a run folder inside.

    Raises: RunLocked if another process does; ConfigError if it cannot be made.
    """
    lease = SoftFileLease(
        folder / LOCK,
        timeout=0,
        lease_duration=DEAD_SECONDS,
        heartbeat_interval=BEAT_SECONDS,
    )
    turn = SoftFileLease(
        folder / LOCK_TURN, timeout=3 * TURN_SECONDS, lease_duration=TURN_SECONDS
    )
    doubt = ""
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            is_alone = _enter_machine_lock(folder, held)
            doubt = "; if that is no more, its lock ends "
            doubt += f"{DEAD_SECONDS:.0f} s after its last sign of life"
            _remove_torn(folder / LOCK_TURN)
            with turn:
                # The file system's own clock: that of the machine may be another.
                now = (folder / LOCK_TURN).stat().st_mtime
                if _owner(folder, is_alone, now) is None:
                    (folder / LOCK).unlink(missing_ok=True)
                lease.acquire()
                held.callback(_remove, lease.release)
        except Timeout as error:
            owner = lock_holder(folder) or "another process"
            raise RunLocked(f"{folder} is being made by {owner}{doubt}") from error
        except (OSError, ValueError) as error:  # ValueError: a null in the name
            why = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"{folder} cannot be written to ({why}): set log_dir to a folder that can"
            ) from error
        yield


def lock_holder(folder: Path) -> str | None:
    """Say who makes the run of a folder now, if anybody; nothing is created or taken."""
    return _owner(folder, False, time.time())


def _enter_machine_lock(folder: Path, held: ExitStack) -> bool:
    """Lock out this machine's other processes; False where there is no such lock."""
    path = folder / MACHINE_LOCK
    try:
        held.enter_context(FileLock(path, timeout=0, fallback_to_soft=False))
    except OSError as error:  # a Timeout, too, which has no number
        if error.errno not in _UNSUPPORTED:
            raise
        return False
    held.callback(_remove, path.unlink)
    return True


def _remove(step: Callable[[], object]) -> None:
    """End a hold; a file that cannot be removed counts no more once its process ends."""
    with suppress(OSError):
        step()


def _remove_torn(path: Path) -> None:
    """Remove a lease that stays empty; filelock would wait for it for ever."""
    with suppress(FileNotFoundError):
        if (seen := path.stat()).st_size == 0:
            time.sleep(TORN_SECONDS)
            now = path.stat()
            if now.st_size == 0 and os.path.samestat(seen, now):
                path.unlink()


def _owner(folder: Path, is_alone: bool, now: float) -> str | None:
    """Whoever holds the lease and lives; ``is_alone``: no other process of this machine.

    A time stamp that lies ahead is nobody's sign of life: the clock was set back since.
    """
    path = folder / LOCK
    try:
        text = read_bytes(path, 1024).decode()
        seconds = abs(now - path.stat().st_mtime)
    except (OSError, ValueError):
        return None
    is_fresh = seconds <= DEAD_SECONDS
    owner = dict(re.findall(r"^(pid|host)=(.{1,99})$", text, re.MULTILINE))
    pid, host = owner.get("pid", ""), owner.get("host")
    if host is None or not pid.isdecimal():
        return None  # torn: nobody is writing it now
    if host == socket.gethostname():
        is_fresh = not is_alone and psutil.pid_exists(int(pid))
    return f"process {pid} on {host}" if is_fresh else None
