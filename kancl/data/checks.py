"""Refusals of values that are no choice or no count, or would not fit into memory."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from psutil import virtual_memory

OWN_GROUPS, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


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


def check_room(
    what: str, n_bytes: int, instead: Callable[[int], str], device: Any = "cpu"
) -> None:
    """Raises: ValueError for what takes more memory than is free, with the way out.

    Args:
        instead: says it, from the bytes that are free.
    """
    free = free_memory(device)
    if n_bytes > free:
        gib, left = (f"{part / 2**30:,.1f} GiB" for part in (n_bytes, free))
        raise ValueError(
            f"{what} takes {gib} of memory, and {left} are free: {instead(free)}"
        )


def free_memory(device: Any = "cpu") -> int:
    """Bytes that this process can still take: of a GPU's; or of the machine's and of its
    control group's (Slurm, Docker, Kubernetes)."""
    if str(device).startswith("cuda"):
        from torch.cuda import mem_get_info

        return int(mem_get_info(device)[0])
    return min([virtual_memory().available, *_left_in_groups()])


def _left_in_groups() -> Iterator[int]:
    """Bytes that are left in each control group of this process that has a limit.

    Files in the cache count as taken, and give way: those not in use are left, too.
    """
    with suppress(OSError, ValueError):  # another system, or none may be looked at
        for line in OWN_GROUPS.read_text().splitlines():
            _, kinds, name = line.split(":", 2)
            version_1 = "memory" in kinds.split(",")
            if not version_1 and kinds:
                continue
            root = GROUPS / "memory" if version_1 else GROUPS
            here = root / name.strip("/")
            for group in (here, *here.parents):
                if group.is_relative_to(root):
                    yield from _left_in(group, version_1)


def _left_in(group: Path, version_1: bool) -> Iterator[int]:
    most, used, cached = ("memory.max", "memory.current", "inactive_file ")
    if version_1:
        most, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
        cached = "total_inactive_file "
    with suppress(OSError, ValueError):  # "max" is no limit
        limit = int((group / most).read_text())
        taken = int((group / used).read_text())
        rows = (group / "memory.stat").read_text().splitlines()
        taken -= sum(int(r.split()[1]) for r in rows if r.startswith(cached))
        yield max(0, limit - taken)


def check_memory(what: str, n_bytes: int) -> None:
    """Raises: ValueError for data of which two copies don't fit into free memory."""
    free = free_memory()
    if 2 * n_bytes > free:
        raise ValueError(
            f"{what} takes {n_bytes / 2**30:,.1f} GiB, twice while it is prepared, and "
            f"this machine has {free / 2**30:,.1f} GiB of free memory"
        )
