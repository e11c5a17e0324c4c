"""Runs as the rows of one table, for pandas or a spreadsheet."""

import csv
import io
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kancl.config import ConfigError
from kancl.config.files import flat
from kancl.reporting.table import csv_cell
from kancl.reporting.variants import shown
from kancl.runs.files import write_whole
from kancl.runs.reader import Run

KINDS = (".csv", ".parquet")


def check_target(path: Path) -> None:
    """Raises: ConfigError for another kind of file, or one that needs an extra."""
    if path.suffix not in KINDS:
        raise ConfigError(f"--to {path} must end in {' or '.join(KINDS)}")
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise ConfigError(f"--to {path} needs: pip install 'kancl[parquet]'")


def write_runs(runs: Sequence[Run], path: Path) -> None:
    """Write a row per run: its folder and status, every key of its configuration, every
    number of its summary, and the metrics recomputed from its series.

    Raises: OSError if the file cannot be written.
    """
    rows = [_row(run) for run in runs]
    names = list(dict.fromkeys(name for row in rows for name in row))
    if path.suffix == ".csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(map(csv_cell, names))
        for row in rows:
            writer.writerow(csv_cell(row.get(name)) for name in names)
        return write_whole(path, text.getvalue().encode())
    import pyarrow
    from pyarrow import parquet

    columns = {name: _of_one_type([row.get(name) for row in rows]) for name in names}
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), buffer)
    write_whole(path, buffer.getvalue())


def _row(run: Run) -> dict[str, Any]:
    told = {**run.summary, **run.recomputed, **flat(run.config)}
    row = {"folder": run.name, "status": run.status}
    for name, value in told.items():
        if isinstance(value, (list, tuple)):
            value = shown(value)
        if not isinstance(value, dict):
            row.setdefault(name, value)
    return row


def _of_one_type(values: list[Any]) -> list[Any]:
    """The values, as text where they are of several types."""
    types = {type(value) for value in values if value is not None}
    if len(types) < 2:
        return values
    if types == {int, float}:
        return [value if value is None else float(value) for value in values]
    return [value if value is None else shown(value) for value in values]
