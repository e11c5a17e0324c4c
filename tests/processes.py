"""Processes forked from the tests: they need not import torch and Avalanche again."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

BROKEN = 70


def forked(work: Callable[[], object]) -> int:
    """The id of a process that does ``work`` and leaves; an int that it gives is its code."""
    if pid := os.fork():
        return pid
    code = BROKEN
    try:
        done = work()
        code = done if isinstance(done, int) else 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else BROKEN
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)


def exit_code(pid: int) -> int:
    """Wait until a process has ended; give its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
