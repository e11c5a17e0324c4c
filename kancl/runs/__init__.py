"""Run folders: what is in them, who writes them, and how they are read back."""

from kancl.runs.files import WriteError, write_whole
from kancl.runs.folder import RunFolder
from kancl.runs.lock import RunLocked, lock_holder, run_lock
from kancl.runs.measurements import Measurement, all_metrics
from kancl.runs.reader import (
    Run,
    find_runs,
    read_completed,
    read_measurements,
    read_run,
)
