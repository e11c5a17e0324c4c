"""SIGTERM and Ctrl-C: a checkpoint first, then out."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(BaseException):
    """A signal asked the run to stop. Not an Exception: no plugin may swallow it."""

    wrote = False
    """Whether a checkpoint was written on the way out."""

    def __init__(self, name: str) -> None:
        super().__init__(f"stopped by {name}")
        self.exit_code = 128 + signal.Signals[name]  # as shells have it


class Interruption:
    """Notes a signal, for the run to leave at the end of the present iteration.

    Where there is no such end soon (evaluations, Fisher information) it leaves at once,
    and the second signal always does.
    """

    signal: str | None = None
    can_wait = False
    """Whether an iteration is under way, at whose end the run will ask."""

    def leave(self) -> None:
        assert self.signal is not None
        raise Interrupted(self.signal)

    def handle(self, number: int, frame: FrameType | None) -> None:
        second = self.signal is not None
        self.signal = signal.Signals(number).name
        if second or not self.can_wait:
            self.leave()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Inside, the first signal waits for the end, where it raises Interrupted."""
        self.can_wait = True
        try:
            yield
        finally:
            self.can_wait = False
        if self.signal is not None:
            self.leave()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Inside, signals are noted here; Python allows that in the main thread only."""
        is_main = threading.current_thread() is threading.main_thread()
        heard = (signal.SIGINT, signal.SIGTERM) if is_main else ()
        before = {number: signal.signal(number, self.handle) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
