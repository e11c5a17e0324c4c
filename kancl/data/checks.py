"""Refusals of values that are no choice or no count, or would not fit into memory."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from psutil import virtual_memory


def check_choice(option: str, value: Any, choices: Iterable[str]) -> None:
    """Raises: ValueError for a value not among the choices, naming the nearest."""
    choices = list(choices)
    if value not in choices:
        nearest = get_close_matches(str(value), choices, n=1, cutoff=0.4)
        hint = f". Did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(
            f"{option}={value!r} is unknown; expected one of {', '.join(choices)}{hint}"
        )


def check_count(option: str, value: Any, least: int) -> None:
    """Raises: ValueError for what is not a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{option}={value!r} must be a whole number, {least} or more")


def check_memory(what: str, n_bytes: int) -> None:
    """Raises: ValueError for data of which two copies don't fit into free memory."""
    free = virtual_memory().available
    if 2 * n_bytes > free:
        raise ValueError(
            f"{what} takes {n_bytes / 2**30:,.1f} GiB, twice while it is prepared, and "
            f"this machine has {free / 2**30:,.1f} GiB of free memory"
        )
