"""Numbers too small for full precision, which make a CPU slow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Denormal numbers are 0 inside; outside it is again as it was.

    The moments that Adam keeps of a unit or a class that is no longer trained shrink
    until they are denormal (1e-38 in float32), and a CPU takes some hundred cycles for
    each such number: an MLP's steps on the last digits of Split MNIST took 7 times as
    long as on the first. Next to Adam's ``eps`` they count for nothing: whole runs with
    and without ended with the same parameters, to the bit. Holds for the calling thread,
    so for all of a run with ``threads=1``.
    """
    for kind in (np.float32, np.float64):
        np.finfo(kind)  # asked for the first time inside, NumPy warns
    before = _are_flushed()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _are_flushed() -> bool:
    half = torch.tensor(torch.finfo(torch.float32).tiny) * 0.5
    return not bool(half > 0)
