"""RESULTS.md: what a protocol's run adds to it, and nothing that stood there is lost."""

from __future__ import annotations

import os
import re
from pathlib import Path

from kancl.config import ConfigError
from kancl.runs import write_whole


def check_writable(path: Path) -> None:
    """Raises: ConfigError for a file that could not be written, days later."""
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir():
        why = "is a folder" if path.is_dir() else f"has no folder {folder}"
        raise ConfigError(
            f"--results {path} {why}; name a file in a folder that exists"
        )
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise ConfigError(f"--results {path} cannot be written here; name another file")


def write_section(path: Path, text: str, n_keys: int = 1) -> None:
    """Put a section into a Markdown file; one of its name takes the new rows in.

    Rows of its table whose first cells are those of a new one give way, all else that
    stood there, other rows and notes, stays.

    Args:
        text: begins with its ``## heading`` and holds one table.
        n_keys: cells by which a row is known.
    """
    before = path.read_text() if path.is_file() else "# Results\n"
    heading = text.partition("\n")[0]
    start = re.search(rf"^{re.escape(heading)}$", before, re.MULTILINE)
    if start is None:
        after = f"{before.rstrip()}\n\n{text}"
    else:
        end = re.search(r"^## ", before[start.end() :], re.MULTILINE)
        rest = before[start.end() + end.start() :] if end else ""
        merged = _merged(before[start.start() : len(before) - len(rest)], text, n_keys)
        after = before[: start.start()] + merged + (f"\n{rest}" if rest else "")
    write_whole(path, after.encode())


def _merged(old: str, new: str, n_keys: int) -> str:
    head, rows, notes = _parts(new)
    _, old_rows, old_notes = _parts(old)
    fresh = {_key(row, n_keys): row for row in rows}
    kept = [fresh.pop(_key(row, n_keys), row) for row in old_rows]
    notes += [line for line in old_notes if line not in notes]
    while notes and not notes[-1]:
        notes.pop()
    return "\n".join([*head, *kept, *fresh.values(), *notes]) + "\n"


def _parts(section: str) -> tuple[list[str], list[str], list[str]]:
    """Lines down to the table's rule, its rows, what follows."""
    lines = section.rstrip().split("\n")
    rule = next((k for k, line in enumerate(lines) if line.startswith("| ---")), None)
    if rule is None:
        return lines, [], []
    last = rule + 1
    while last < len(lines) and lines[last].startswith("|"):
        last += 1
    return lines[: rule + 1], lines[rule + 1 : last], lines[last:]


def _key(row: str, n_keys: int) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in row.split("|")[1 : 1 + n_keys])
