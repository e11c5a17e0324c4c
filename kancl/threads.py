"""Locks between the threads of a process."""

import os
from threading import RLock
from typing import Any


def thread_lock() -> Any:
    """A reentrant lock that is free in a forked process, which has none of the other
    threads: one of them would hold it there for ever.
    """
    lock: Any = RLock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lock._at_fork_reinit)
    return lock
