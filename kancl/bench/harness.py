"""What the benchmarks share: command lines, turns, training steps, tables."""

from __future__ import annotations

import argparse
import csv
import inspect
import io
import statistics
import tempfile
import time
import timeit
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin

import torch

from kancl.config.groups import Option, signature_options
from kancl.config.options import Parser
from kancl.runner.machine import keep_freed_memory
from kancl.runs.files import write_whole

TURN_SECONDS = 0.1
"""A turn is as many steps as fit in."""

Step = Callable[[], object]
Prepare = Callable[[int], Step]
"""Gets a turn ready, untimed, and returns what is timed."""
K = TypeVar("K")
Row = Mapping[str, Any]
"""Words, numbers and None by the column's title; ``verdict``, if any: PASS or FAIL."""
Rows = Sequence[Row]


def main(bench: Callable[..., Iterable[Rows]], argv: list[str] | None = None) -> int:
    """Show the tables that a benchmark yields; 1 if a verdict is FAIL.

    Its keyword-only arguments are the command's options, its docstring is the help.
    """
    parser = Parser(
        bench.__name__.replace("_", " ", 1).replace("bench", "kancl bench"),
        description=(inspect.getdoc(bench) or "").partition("\n\n")[0],
    )
    for option in signature_options(bench).values():
        _add_option(parser, option)
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--csv", type=Path, help="where to write the table as well")
    options = vars(parser.parse_args(argv))
    torch.set_num_threads(options.pop("threads"))
    keep_freed_memory()  # as runs do
    path, rows = options.pop("csv"), list[Row]()
    try:
        for part in bench(**options):
            show(part)
            rows += part
            if path is not None:  # now: the process may be ended at any time
                _write(rows, path)
    except ValueError as error:
        parser.error(str(error))
    return int(any(row.get("verdict") == "FAIL" for row in rows))


def _write(rows: Rows, path: Path) -> None:
    writer = csv.writer(file := io.StringIO(), lineterminator="\n")
    writer.writerows([rows[0], *(row.values() for row in rows)])
    write_whole(path, file.getvalue().encode())


def _add_option(parser: argparse.ArgumentParser, option: Option) -> None:
    kind, help = option.annotation, option.help.replace("%", "%%")
    words: dict[str, Any] = {"default": option.default, "help": help}
    if NoneType in get_args(kind):
        (kind,) = [part for part in get_args(kind) if part is not NoneType]
    if get_origin(kind) is Sequence:
        (kind,) = get_args(kind)
        words["nargs"] = "+"
    if option.name == "settings":
        parser.add_argument("settings", **words | {"nargs": "*"})
        return
    if kind is bool:
        words["action"] = "store_true"
    elif get_args(kind):
        words["choices"] = get_args(kind)
    elif kind is int:
        words["type"] = positive
    elif kind is float:
        words["type"] = float
    parser.add_argument("--" + option.name.replace("_", "-"), **words)


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} must be a whole number from 1")
    return int(text)


def show(rows: Rows) -> None:
    """Print a table with its columns in the order of the first row."""
    try:
        from kancl.reporting.table import Column, Table
    except ModuleNotFoundError:  # without Avalanche layers can be timed all the same
        for row in rows:
            print(*row.values(), sep="  ", flush=True)
        return
    columns = []
    for title in rows[0]:
        numbers = any(isinstance(row[title], (int, float)) for row in rows)
        columns.append(Column(title, _number if numbers else None, absent=""))
    Table("", columns, [[*row.values()] for row in rows]).show()


def _number(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def verdict(holds: bool) -> str:
    return "PASS" if holds else "FAIL"


def now() -> float:
    """Seconds, once every device has done its work."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()


@dataclass
class Timing:
    """What one of several things took and returned, turn by turn."""

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def times(self, other: Timing) -> float:
        """Median over the turns of this time as a multiple of the other's."""
        return median_ratio(self.seconds, other.seconds)

    def cpu_times(self, other: Timing) -> float:
        """The CPU's time leaves out what was waited for others."""
        return median_ratio(self.cpu_seconds, other.cpu_seconds)

    def cells(self, first: Timing) -> dict[str, Any]:
        """The columns that say how long it took, beside the first."""
        return {
            "seconds": self.median,
            "times": self.times(first),
            "CPU seconds": statistics.median(self.cpu_seconds),
            "times CPU": self.cpu_times(first),
            "all seconds": " ".join(f"{seconds:.2f}" for seconds in self.seconds),
        }


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs))


def take_turns(variants: Mapping[K, Prepare], turns: int) -> dict[K, Timing]:
    """Time several things in turns, so that whatever else the machine does hits all."""
    timings = {name: Timing() for name in variants}
    for turn in range(turns):
        for name, prepare in variants.items():
            work, timing = prepare(turn), timings[name]
            start, cpu_start = now(), time.process_time()
            timing.results.append(work())
            timing.seconds.append(now() - start)
            timing.cpu_seconds.append(time.process_time() - cpu_start)
    return timings


def time_steps(
    steps: Mapping[K, Step], turns: int, turn_seconds: float = TURN_SECONDS
) -> dict[K, Timing]:
    """Seconds per step of each, in turns of many steps.

    A step before each turn is not counted: it brings its own data back into the caches.
    """
    timings, timed = {name: Timing() for name in steps}, []
    for name, step in steps.items():
        timer = timeit.Timer(step, timer=now)
        timer.timeit(1)  # compiles, allocates, makes the optimizer's state
        n = max(1, int(turn_seconds / timer.timeit(1)))
        timed.append((timer, n, timings[name].seconds))
    for _ in range(turns):
        for timer, n, seconds in timed:
            timer.timeit(1)
            seconds.append(timer.timeit(n) / n)
    return timings


def finished_run(words: Sequence[str]) -> dict[str, Any]:
    """The summary of the run that overrides of ``kancl run`` ask for.

    Its folder is deleted, unless they set ``log_dir``.

    Raises: RuntimeError if it is not completed.
    """
    # Not above: it takes Avalanche, which the benchmarks of layers do without.
    from kancl.runner.request.compose import read_request
    from kancl.runner.run import run

    with tempfile.TemporaryDirectory() as folder:
        request = read_request([f"log_dir={folder!r}", *words], sweep=False)
        summary = run(request.configs[0], quiet=True)
    if summary["status"] != "completed":
        raise RuntimeError(f"the run of {words} failed: {summary.get('error')}")
    return summary
