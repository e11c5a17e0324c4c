"""Which runs of a study are done, under way, failed or missing."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kancl.config import ConfigError, RunConfig
from kancl.runner.checkpoint import CheckpointError, write_whole
from kancl.runner.folder import RunFolder, is_whole
from kancl.runner.lock import holder

STATES = ("completed", "running", "stopped", "failed", "diverged", "missing")
"""``stopped``: begun, without a result, and nobody is making it (killed, say)."""

SWEEPS = "sweeps"
"""Folder in ``log_dir`` with the list of runs of each sweep."""


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Args:
        name: its folder's path inside ``log_dir``.
        state: one of ``STATES``.
        words: why, or where it stands.
    """

    name: str
    state: str
    words: str = ""


def note_sweep(configs: Sequence[RunConfig]) -> None:
    """Write down which runs a sweep consists of, so that missing ones can be told."""
    log_dir = Path(configs[0].log_dir)
    names = sorted(str(RunFolder(c).path.relative_to(log_dir)) for c in configs)
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]
    text = json.dumps({"runs": names}, indent=1) + "\n"
    try:
        write_whole(log_dir / SWEEPS / f"{digest}.json", text.encode())
    except CheckpointError as error:
        raise ConfigError(str(error)) from error


def read_status(log_dir: Path) -> list[Cell]:
    """Every run in a folder, and every run that a sweep asked for there.

    Raises: ConfigError if there is no such folder, or no run in it.
    """
    if not log_dir.is_dir():
        raise ConfigError(f"there is no folder {log_dir}; kancl run writes to logs")
    names = {
        str(path.parent.relative_to(log_dir)) for path in log_dir.rglob("config.yaml")
    }
    for path in sorted((log_dir / SWEEPS).glob("*.json")):
        names |= set(_sweep(path, log_dir))
    if not names:
        raise ConfigError(f"there is no run in {log_dir}; kancl run writes to logs")
    return [_cell(log_dir, name) for name in sorted(names)]


def show_status(cells: Sequence[Cell]) -> None:
    """Print how many there are of each kind, and which are not completed."""
    counts = Counter(cell.state for cell in cells)
    told = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    for state in STATES[1:]:
        for cell in cells:
            if cell.state == state:
                print(f"{state:9} {cell.name}" + f"  ({cell.words})" * bool(cell.words))
    print(f"{len(cells)} runs: {told}")


def count_up(summaries: Sequence[Mapping[str, Any]]) -> None:
    """Say at the end of a sweep how many runs have no result, and which."""
    lost = [summary for summary in summaries if summary["status"] != "completed"]
    if not lost:
        return
    counts = Counter(summary["status"] for summary in lost)
    told = ", ".join(f"{n} {status}" for status, n in counts.items())
    print(f"kancl: {len(lost)} of {len(summaries)} runs: {told}", file=sys.stderr)
    for summary in lost:
        where = "{scenario} {model}-{strategy} seed {seed}".format(**summary)
        why = in_one_line(summary.get("error", ""))
        print(f"  {summary['status']:9} {where}: {why}", file=sys.stderr)


def _sweep(path: Path, log_dir: Path) -> list[str]:
    """Raises: ConfigError for a list that leads out of ``log_dir``, or is none."""
    try:
        names = json.loads(path.read_text())["runs"]
        inside = [name for name in names if _is_inside(log_dir, name)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is no list of runs: remove it") from error
    if len(inside) < len(names):
        raise ConfigError(f"{path} names a folder outside {log_dir}: remove it")
    return inside


def _is_inside(log_dir: Path, name: str) -> bool:
    return (log_dir / name).resolve().is_relative_to(log_dir.resolve())


def _cell(log_dir: Path, name: str) -> Cell:
    folder = log_dir / name
    owner = holder(folder)
    if owner is not None:
        return Cell(name, "running", owner)
    if not folder.is_dir():
        return Cell(name, "missing")
    try:
        summary = json.loads((folder / "summary.json").read_text())
        status = str(summary["status"])
    except FileNotFoundError:
        return Cell(name, "stopped", _where_it_stands(folder))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return Cell(name, "stopped", "its summary.json cannot be read")
    if status not in STATES:
        return Cell(name, "stopped", f"its status is {status[:40]!r}")
    if status == "completed" and not is_whole(folder, summary):
        return Cell(name, "stopped", "files of it are missing: begins anew")
    return Cell(name, status, in_one_line(summary.get("error", "")))


def in_one_line(text: object) -> str:
    """Words of a file, for a terminal: no line breaks, no control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def _where_it_stands(folder: Path) -> str:
    found = sorted((folder / "checkpoint").glob("iteration-*.ckpt"))
    if found:
        return f"goes on at iteration {found[-1].stem.partition('-')[2].lstrip('0')}"
    if list((folder / "checkpoint").glob("*.ckpt")):
        return "goes on where its last experience begins"
    return "begins anew"
