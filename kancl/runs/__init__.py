"""Run folders: what is in them, who writes them, and how they are read back.

What reads numbers brings in torch, with the first name that needs it; ``status`` does not.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kancl.runs.files import WriteError, write_whole
    from kancl.runs.folder import RunFolder
    from kancl.runs.lock import RunLocked, lock_holder, run_lock
    from kancl.runs.measurements import Measurement, all_metrics
    from kancl.runs.reader import (
        Run,
        asked_for,
        find_runs,
        read_measurements,
        read_run,
        select_runs,
    )
    from kancl.runs.status import read_completed

_HOMES = {
    "files": ("WriteError", "write_whole"),
    "folder": ("RunFolder",),
    "lock": ("RunLocked", "lock_holder", "run_lock"),
    "measurements": ("Measurement", "all_metrics"),
    "reader": (
        *("Run", "find_runs", "select_runs", "asked_for"),
        *("read_measurements", "read_run"),
    ),
    "status": ("read_completed",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"kancl.runs.{home}"), name)
    raise AttributeError(f"module 'kancl.runs' has no attribute {name!r}")
