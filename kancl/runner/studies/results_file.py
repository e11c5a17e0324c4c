"""RESULTS.md: what a protocol's run adds to it, and nothing that stood there is lost."""

from __future__ import annotations

import os
import re
from pathlib import Path

from kancl.config import ConfigError
from kancl.runs import write_whole

KEYS = ("row", "incremental")
"""Titles of the columns, the first of a table, by which a row is known."""


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


def write_section(path: Path, text: str) -> None:
    """Put a section into a Markdown file; one of its name takes the new rows in.

    A row of its table gives way to a new one of the same ``KEYS``; all else that stood
    there, other rows and notes, stays.

    Args:
        text: begins with its ``## heading`` and holds one table.
    """
    before = path.read_text() if path.is_file() else "# Results\n"
    sections = re.split(r"^(?=## )", before, flags=re.MULTILINE)
    headings = [section.partition("\n")[0] for section in sections]
    heading = text.partition("\n")[0]
    if heading in headings:
        k = headings.index(heading)
        sections[k] = _merged(sections[k], text) + "\n" * (k < len(sections) - 1)
    else:
        sections = [f"{before.rstrip()}\n\n{text}"]
    write_whole(path, "".join(sections).encode())


def _merged(old: str, new: str) -> str:
    head, rows, notes = _parts(new)
    _, old_rows, old_notes = _parts(old)
    n_keys = sum(title in KEYS for title in _cells(head[-2]))
    fresh = {_cells(row)[:n_keys]: row for row in rows}
    merged = [fresh.pop(_cells(row)[:n_keys], row) for row in old_rows]
    notes += [line for line in old_notes if line not in notes]
    while notes and not notes[-1]:
        notes.pop()
    return "\n".join([*head, *merged, *fresh.values(), *notes]) + "\n"


def _parts(section: str) -> tuple[list[str], list[str], list[str]]:
    """Lines down to the table's rule, its rows, what follows: all, without a table."""
    lines = section.rstrip().split("\n")
    rule = next((k for k, line in enumerate(lines) if line.startswith("| ---")), 0)
    last = rule + 1
    while rule and last < len(lines) and lines[last].startswith("|"):
        last += 1
    return lines[: rule + 1], lines[rule + 1 : last], lines[last:]


def _cells(row: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in row.split("|")[1:-1])
