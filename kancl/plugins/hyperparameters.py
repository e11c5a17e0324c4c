"""Range checks with one wording, for plugins and the strategies made of them."""

from __future__ import annotations

import math


def at_least(name: str, value: int, low: int = 1) -> int:
    """Return ``value`` if it is ``low`` or more.

    Raises: ValueError naming the option, the value and what is accepted.
    """
    if value < low:
        raise ValueError(f"{name} must be {low} or more, got {value}")
    return value


def non_negative(name: str, value: float, instead: str = "") -> float:
    """Return ``value`` if it is finite and 0 or more.

    Args:
        instead: what to do for the effect of a negative value.
    Raises: ValueError naming the option, the value and what is accepted.
    """
    if not math.isfinite(value) or value < 0:
        raise ValueError(
            f"{name} must be a finite number, 0 or more, got {value}"
            + (f"; {instead}" if instead else "")
        )
    return value


def positive(name: str, value: float) -> float:
    """Return ``value`` if it is finite and above 0.

    Raises: ValueError naming the option, the value and what is accepted.
    """
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name} must be a finite number above 0, got {value}")
    return value


def fraction(name: str, value: float) -> float:
    """Return ``value`` if it lies in [0, 1].

    Raises: ValueError naming the option, the value and what is accepted.
    """
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie between 0 and 1, got {value}")
    return value
