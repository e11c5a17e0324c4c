"""The table: what was checked, what came out, what was to come out, whether it did."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from rich.console import Console
from rich.table import Table

Verdict = Literal["PASS", "FAIL", "not run", ""]
COLUMNS = ("check", "result", "target", "verdict")


class Report:
    """Rows of the table, each printed as it comes.

    Args:
        small: cut every check to what a CPU does in seconds.
    """

    def __init__(self, device: torch.device, small: bool = False) -> None:
        self.device = device
        self.small = small
        self.rows: list[tuple[str, str, str, Verdict]] = []

    def add(
        self, check: str, result: str, target: str = "", holds: bool | None = None
    ) -> None:
        """Add a row; ``holds`` None marks a figure that nothing is asked of here."""
        verdict: Verdict = "" if holds is None else "PASS" if holds else "FAIL"
        self._row(check, result, target, verdict)

    def not_run(self, check: str, why: str, target: str = "") -> None:
        """Add a row for what can't be checked here."""
        self._row(check, why, target, "not run")

    def _row(self, check: str, result: str, target: str, verdict: Verdict) -> None:
        self.rows.append((check, result, target, verdict))
        print(f"{check:<46} {result:<66} {target:<22} {verdict}", flush=True)

    @contextmanager
    def guarded(self, check: str) -> Iterator[None]:
        """An error is a failed row, and the rest goes on; what is missing, no failure."""
        try:
            yield
        except ModuleNotFoundError as error:
            self.not_run(check, f"{error.name} is not installed")
        except Exception as error:  # whatever a device comes up with
            self.add(check, f"{type(error).__name__}: {error}", "no error", False)

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def failed(self) -> list[str]:
        return [check for check, _, _, verdict in self.rows if verdict == "FAIL"]

    def now(self) -> float:
        """Seconds, with nothing left to do on the device."""
        if self.cuda:
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def print(self) -> None:
        table = Table(title="kancl bench device", show_lines=True)
        for column in COLUMNS:
            table.add_column(column)
        for row in self.rows:
            table.add_row(*row)
        Console().print(table)
