"""Python's garbage collector, and work during which it rests."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def not_collecting() -> Iterator[None]:
    """Inside, no garbage is looked for: imports and compilations leave none, and among
    torch's many objects the search takes a tenth to a fifth of their time.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
