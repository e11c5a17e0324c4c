"""SIGTERM and Ctrl-C: a checkpoint first, then out."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = {"SIGINT": 130, "SIGTERM": 143}
"""Exit code for each, as shells have it: 128 and the signal's number."""


class Interrupted(BaseException):
    """A signal asked the run to stop. Not an Exception: no plugin may swallow it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"stopped by {name}")
        self.exit_code = SIGNALS[name]
        self.wrote = False
        """Whether a checkpoint was written on the way out."""


class Interruption:
    """Notes a signal, for the run to leave at the end of the present iteration.

    Where there is no such end soon (evaluations, Fisher information) it leaves at once,
    and the second signal always does.
    """

    def __init__(self) -> None:
        self.signal: str | None = None
        self.can_wait = False
        """Whether an iteration is under way, at whose end the run will ask."""

    def leave(self) -> None:
        """Raises: Interrupted."""
        assert self.signal is not None
        raise Interrupted(self.signal)

    def handle(self, number: int, frame: FrameType | None) -> None:
        second = self.signal is not None
        self.signal = signal.Signals(number).name
        if second or not self.can_wait:
            self.leave()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Inside, the first signal waits for the end of it.

        Raises: Interrupted, then.
        """
        self.can_wait = True
        try:
            yield
        finally:
            self.can_wait = False
        if self.signal is not None:
            self.leave()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Inside, signals are noted here; in a thread, Python lets nobody listen."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {name: signal.getsignal(getattr(signal, name)) for name in SIGNALS}
        for name in SIGNALS:
            signal.signal(getattr(signal, name), self.handle)
        try:
            yield
        finally:
            for name, handler in before.items():
                signal.signal(getattr(signal, name), handler)
