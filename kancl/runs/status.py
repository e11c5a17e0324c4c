"""Which runs of a study are done, under way, failed or missing."""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kancl.config import ConfigError
from kancl.reading import in_one_line, printable, try_json
from kancl.runs import names
from kancl.runs.files import (
    checkpoints_of,
    files_of_runs,
    folders_called,
    listed_runs,
    own_folder,
    write_whole,
)
from kancl.runs.lock import lock_holder

STATES = tuple("completed running stopped failed diverged missing refused".split())
"""``stopped``: begun, without a result, and nobody is making it (killed, say);
``refused``: no run, but a sweep's list of runs."""


class Cell(NamedTuple):
    """A run of a study: its path inside ``log_dir``, one of ``STATES``, and why."""

    name: str
    state: str
    reason: str = ""


def note_runs(comparison: Path, runs: Sequence[Path]) -> None:
    """Write down which runs a comparison consists of, so that missing ones can be told.

    Raises: ConfigError if it is one of other runs.
    """
    ours = sorted(str(run.relative_to(comparison.parents[1])) for run in runs)
    file = own_folder(comparison) / names.RUNS
    if file.exists() and (others := listed_runs(file, comparison.parents[1]) - {*ours}):
        raise ConfigError(
            f"{comparison} compares {len(others)} runs that are not of this comparison: "
            "choose another name=, or remove that folder"
        )
    write_whole(file, (json.dumps({"runs": ours}, indent=1) + "\n").encode())


def read_status(place: Path | str) -> list[Cell]:
    """Every run in a folder, and every run that a sweep asked for there; those of a run or
    a comparison by its name.

    A list of runs that cannot be read is a cell of its own.

    Raises: ConfigError if there is no such folder, or no run in it.
    """
    return [cell for folder in folders_called(place) for cell in _cells(folder)]


def _cells(log_dir: Path) -> list[Cell]:
    if not log_dir.is_dir():
        raise ConfigError(f"there is no folder {log_dir}; kancl run writes to logs")
    if (log_dir / names.CONFIG).is_file():  # a run's own
        return [_cell(log_dir.absolute().parent, log_dir.absolute().name)]
    if (file := log_dir / names.RUNS).is_file():  # a comparison's own
        root = log_dir.absolute().parents[1]
        return [_cell(root, run) for run in sorted(listed_runs(file, root))]
    files = files_of_runs(log_dir, names.CONFIG)
    found = (file.parent.relative_to(log_dir) for file in files)
    runs = {str(f) for f in found if names.NO_RUNS.isdisjoint(f.parts)}
    noted = [*(log_dir / names.SWEEPS).glob("*.json")]
    noted += (log_dir / names.COMPARISONS).glob(f"*/{names.RUNS}")
    refused = []
    for path in sorted(noted):
        try:
            runs |= listed_runs(path, log_dir)
        except ConfigError as error:
            name = str(path.relative_to(log_dir))
            refused.append(Cell(name, "refused", in_one_line(error)))
    if not runs and not refused:
        raise ConfigError(f"there is no run in {log_dir}; kancl run writes to logs")
    return [*(_cell(log_dir, run) for run in sorted(runs)), *refused]


def read_completed(folder: Path) -> dict[str, Any] | None:
    """The summary of a run that completed and whose files are there, or None."""
    summary = try_json(folder / names.SUMMARY) or {}
    kinds = names.IDENTITY.items()
    whole = all(isinstance(summary.get(key), kind) for key, kind in kinds)
    if summary.get("status") != "completed" or not whole:
        return None
    files = [(folder / name).is_file() for name in (names.CONFIG, names.METRICS)]
    files.append(any((folder / names.matrix_file(s)).is_file() for s in names.SCORES))
    return summary if all(files) else None


def show_status(cells: Sequence[Cell]) -> None:
    """Print how many there are of each kind, and which are not completed."""
    for cell in sorted(cells, key=lambda cell: STATES.index(cell.state)):
        if cell.state != "completed" or cell.reason:
            why = f"  ({cell.reason})" if cell.reason else ""
            print(f"{cell.state:9} {printable(cell.name)}{why}")
    counts = Counter(cell.state for cell in cells)
    told = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    print(f"{len(cells) - counts['refused']} runs: {told}")
    if any(counts[state] for state in ("stopped", "failed", "missing")):
        print(
            "next: the same command makes what is missing; kancl run --from FOLDER one"
        )


def report_failures(summaries: Sequence[Mapping[str, Any]]) -> None:
    """Say at the end of a sweep how many runs have no result, and which."""
    lost = [summary for summary in summaries if summary["status"] != "completed"]
    if not lost:
        return
    counts = Counter(summary["status"] for summary in lost)
    told = ", ".join(f"{n} {status}" for status, n in counts.items())
    lines = [f"kancl: {len(lost)} of {len(summaries)} runs: {told}"]
    run = "  {status:9} {scenario} {model}-{strategy} seed {seed}: "
    lines += [run.format(**s) + in_one_line(s.get("error", "")) for s in lost]
    print("\n".join(lines), file=sys.stderr)


def _cell(log_dir: Path, name: str) -> Cell:
    folder = log_dir / name
    if (owner := lock_holder(folder)) is not None:
        return Cell(name, "running", owner)
    if not folder.is_dir():
        return Cell(name, "missing")
    if not (folder / names.SUMMARY).exists():
        return Cell(name, "stopped", _where_it_resumes(checkpoints_of(folder)))
    summary = try_json(folder / names.SUMMARY) or {}
    status = summary.get("status")
    if status not in names.ENDINGS:
        return Cell(name, "stopped", "its summary.json cannot be read")
    if status == "completed" and read_completed(folder) is None:
        return Cell(name, "stopped", "files of it are missing: begins anew")
    reason = str(summary.get("error", ""))
    if status == "completed" and (folder / names.REPLACEMENT).is_dir():
        reason = _of_repetition(folder / names.REPLACEMENT)
    return Cell(name, status, in_one_line(reason))


def _of_repetition(folder: Path) -> str:
    """What became of a completed run that was to be made again."""
    again = "this result stays; overwrite=true makes it again"
    if (folder / names.WHOLE).is_file():
        return "its replacement was cut off at its end: the same command ends it"
    summary = try_json(folder / names.SUMMARY)
    if summary is not None:
        why = f"its repetition {summary.get('status')}: {summary.get('error', '')}"
    else:
        why = f"its repetition was stopped and {_where_it_resumes(checkpoints_of(folder))}"
    return f"{why}; {again}"


def _where_it_resumes(checkpoints: Path) -> str:
    files = [file.stem for file in checkpoints.glob(names.CHECKPOINT)]
    # "iteration" sorts behind "experience"
    kind, _, number = max(files, default="").partition("-")
    if kind == "iteration":
        return f"goes on at iteration {number.lstrip('0')}"
    return "goes on where its last experience begins" if kind else "begins anew"
