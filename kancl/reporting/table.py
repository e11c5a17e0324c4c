"""One table of typed cells, shown in a terminal or as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Union

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from kancl.metrics.statistics import Difference, Interval, t_interval

UNDEFINED = "n/a"
GOOD, BAD = ("PASS", "completed"), ("FAIL", "failed", "diverged")
STYLES = dict.fromkeys(GOOD, "green") | dict.fromkeys(BAD, "bold red")
"""Style of a row in a terminal, by the verdict in its last cell."""

LONGEST_WORD = 24
"""Columns that wrap break a longer one."""

Show = Callable[[float], str]


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval, None for a single value.

    Args:
        signed: a difference, shown with its sign.
        ends: both ends of the interval are shown, not half of its width.
    """

    mean: float
    interval: Interval | None = None
    signed: bool = False
    ends: bool = False
    note: str = ""

    @classmethod
    def of(cls, values: Sequence[float], note: str = "") -> Estimate | None:
        return cls(fmean(values), t_interval(values), note=note) if values else None

    @classmethod
    def of_difference(cls, d: Difference | None, ends: bool = False) -> Estimate | None:
        return None if d is None else cls(d.mean, d.interval, signed=True, ends=ends)

    def text(self, show: Show) -> str:
        def number(value: float) -> str:
            text = show(value)
            return f"+{text}" if self.signed and not text.startswith("-") else text

        spread = ""
        if self.interval is not None:
            spread = f" ± {show(self.interval.half_width)}"
            if self.ends:
                spread = f" [{', '.join(map(number, self.interval))}]"
        return f"{number(self.mean)}{spread} {self.note}".rstrip()


Cell = Union[str, float, Estimate, None]


@dataclass(frozen=True)
class Column:
    """How the cells of a column are shown.

    Args:
        title: only a terminal shows its line breaks.
        show: a number -> the text for it; None in a column of words, which is set left.
        absent: stands for None.
        wraps: long words may take several lines in a terminal.
        in_files_only: a terminal does not show it.
    """

    title: str
    show: Show | None = None
    unit: str = ""
    absent: str = UNDEFINED
    wraps: bool = False
    in_files_only: bool = False

    @property
    def words(self) -> str:
        return " ".join(self.title.split())

    @property
    def name(self) -> str:
        return f"{self.words} {self.unit}".rstrip()

    def text(self, cell: Cell) -> str:
        if cell is None or isinstance(cell, str):
            return self.absent if cell is None else cell
        show = self.show or str
        return cell.text(show) if isinstance(cell, Estimate) else show(cell)


@dataclass(frozen=True)
class Table:
    """Columns, rows of as many cells, rows below a rule (in bold), and what a reader has
    to know of them. Titles may be empty.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    below: Sequence[Sequence[Cell]] = ()
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        for row in (*self.rows, *self.below):
            if len(row) != (n := len(self.columns)):
                raise ValueError(f"a row of {n} cells was expected, got {row}")

    def texts(self, rows: Sequence[Sequence[Cell]]) -> list[list[str]]:
        return [[c.text(cell) for c, cell in zip(self.columns, row)] for row in rows]

    def show(self, console: Console | None = None) -> None:
        """Print it with its notes. In a narrow terminal, words wrap where a column may,
        and those that begin a row share a column; else there are several tables.
        """
        console = wide_console(console)
        n = range(len(self.columns))
        table = self._of([k for k in n if not self.columns[k].in_files_only])
        for part in table._parts(console):
            console.print(part.rich(console))
        for note in self.notes:
            console.print(note, style="dim", highlight=False, markup=False)

    def without_empty_columns(self) -> Table:
        """The columns in which a row says anything."""
        rows = [*self.rows, *self.below]
        return self._of(
            [k for k in range(len(self.columns)) if any(row[k] != "" for row in rows)]
        )

    def rich(self, console: Console | None = None) -> RichTable:
        """For a console as wide as it needs, or a given one, in which words wrap."""
        headed = any(column.name for column in self.columns)
        table = RichTable(
            title=Text(self.title) if self.title else None,
            box=SIMPLE_HEAD if headed else None,
            show_header=headed,
            pad_edge=False,
            collapse_padding=headed,
        )
        texts = [*zip(*self.texts([*self.rows, *self.below]))] or [()] * len(
            self.columns
        )
        wrapping = []
        for column, cells in zip(self.columns, texts):
            gap = "\n" if column.unit and "\n" not in column.title else " "
            title = Text(f"{column.title}{gap}{column.unit}".rstrip())
            side: Any = "right" if column.show else "left"
            whole = "\n".join([title.plain, *cells])
            least = max(
                map(cell_len, whole.split() if column.wraps else whole.split("\n")),
                default=0,
            )
            table.add_column(
                title,
                justify=side,
                no_wrap=not column.wraps,
                min_width=min(least, LONGEST_WORD) if column.wraps else least,
                overflow="fold",
            )
            if column.wraps:
                most = max(map(cell_len, whole.split("\n")))
                wrapping.append((most, min(least, LONGEST_WORD), table.columns[-1]))
        for row in self.texts(self.rows):
            table.add_row(*map(Text, row), style=STYLES.get(row[-1], ""))
        table.add_section()
        for row in self.texts(self.below):
            table.add_row(*map(Text, row), style="bold")
        # rich itself takes from all alike, and cuts off the end of the line
        over = _measured(table, console).maximum - console.width if console else 0
        for most, least, narrowed in sorted(wrapping, key=lambda it: it[1] - it[0]):
            if (cut := min(over, most - least)) > 0:
                narrowed.width, over = most - cut, over - cut
        return table

    def _parts(self, console: Console) -> list[Table]:
        """The table, or tables that fit: each has the first columns, those of words."""
        n = len(self.columns)
        n_words = next((k for k, c in enumerate(self.columns) if c.show), n)
        if any(column.wraps for column in self.columns):
            return [self if self._fits(console, True) else self._joined(n_words)]
        if self._fits(console):
            return [self]
        parts = [list(range(n_words))]
        for k in range(n_words, n):
            wider = [*parts[-1], k]
            if not self._of(wider)._fits(console) and len(parts[-1]) > n_words:
                parts.append([*range(n_words), k])
            else:
                parts[-1] = wider
        return [self._of(part) for part in parts]

    def _joined(self, n: int) -> Table:
        """The first ``n`` columns as one, whose words wrap."""
        if n < 2:
            return self
        first = Column(" ".join(c.title for c in self.columns[:n]), wraps=True)

        def joined(rows: Sequence[Sequence[Cell]]) -> list[list[Cell]]:
            words = (" ".join(filter(None, row[:n])) for row in self.texts(rows))
            return [[word, *row[n:]] for word, row in zip(words, rows)]

        columns = [first, *self.columns[n:]]
        return replace(
            self, columns=columns, rows=joined(self.rows), below=joined(self.below)
        )

    def _of(self, columns: Sequence[int]) -> Table:
        """The columns with these indices; of the rows below, those with numbers."""
        head = [self.columns[k] for k in columns]
        rows, below = (
            [[row[k] for k in columns] for row in part]
            for part in (self.rows, self.below)
        )
        below = [r for r in below if any(v != "" and c.show for c, v in zip(head, r))]
        return replace(self, columns=head, rows=rows, below=below)

    def _fits(self, console: Console, wrapped: bool = False) -> bool:
        width = _measured(self.rich(), console)
        return (width.minimum if wrapped else width.maximum) <= console.width

    @property
    def _head(self) -> list[str]:
        return [column.name for column in self.columns]

    def markdown(self) -> str:
        rule = ["---:" if column.show else "---" for column in self.columns]
        lines = [f"**{_markdown(self.title)}**", ""] if self.title else []
        for row in [self._head, rule, *self.texts(self.rows)]:
            lines.append(f"| {' | '.join(map(_markdown, row))} |")
        for row in self.texts(self.below):
            bold = [f"**{_markdown(text)}**" if text else "" for text in row]
            lines.append(f"| {' | '.join(bold)} |")
        lines += [""] * bool(self.notes) + [f"- {note}" for note in self.notes]
        return "\n".join(lines) + "\n"

    def latex(self) -> str:
        """A table for ``\\usepackage{booktabs}``."""
        places = "".join("r" if column.show else "l" for column in self.columns)
        lines = [r"\begin{table}"]
        lines += [rf"\caption{{{self.title.translate(LATEX)}}}"] if self.title else []
        lines += [rf"\begin{{tabular}}{{{places}}}", r"\toprule"]
        blocks = [self.texts(rows) for rows in (self.rows, self.below) if rows]
        for k, rows in enumerate([[self._head], *blocks]):
            lines += [r"\midrule"] if k else []
            lines += [
                " & ".join(t.translate(LATEX) for t in row) + r" \\" for row in rows
            ]
        lines += [r"\bottomrule", r"\end{tabular}"]
        lines += [note.translate(LATEX) + r"\\" for note in self.notes]
        return "\n".join([*lines, r"\end{table}", ""])

    def csv(self) -> str:
        """Unrounded numbers; of an estimate, the mean alone."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(self._head)
        for row in (*self.rows, *self.below):
            writer.writerow(map(csv_cell, row))
        return file.getvalue()


def _measured(table: RichTable, console: Console) -> Measurement:
    return Measurement.get(console, console.options.update(max_width=10_000), table)


def wide_console(console: Console | None = None) -> Console:
    """A console that cuts nothing off where the output is no terminal."""
    console = console or Console()
    if console.is_terminal:
        return console
    return Console(file=console.file, width=200, no_color=True, highlight=False)


count, seconds, rounded = "{:,.0f}".format, "{:,.1f}".format, "{:.2g}".format


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def prefixed(value: float) -> str:
    """Three digits and a prefix: 264,768 is 265 k."""
    power = next((p for p in (5, 4, 3, 2, 1) if value >= 1000**p), 0)
    return f"{value / 1000**power:.3g} {' kMGTP'[power]}".rstrip()


def size(n_bytes: float) -> str:
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if n_bytes >= 2**power:
            return f"{n_bytes / 2**power:.1f} {unit}"
    return f"{n_bytes:.0f} B"


def _markdown(text: str) -> str:
    """The words without any markup; an HTML tag is shown, not obeyed."""
    return " ".join(re.sub(r"([\\|*`]|<(?=[A-Za-z/!?]))", r"\\\1", text).split())


SYMBOLS = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"}
SYMBOLS |= {"^": r"\textasciicircum{}", "±": r"$\pm$", "<": "$<$", ">": "$>$"}
LATEX = str.maketrans(SYMBOLS | {symbol: f"\\{symbol}" for symbol in "&%$#_{}"})


def csv_cell(cell: Cell) -> str:
    """The value; words that a spreadsheet would take for a formula are quoted."""
    if isinstance(cell, str):
        return f"'{cell}" if cell[:1] in tuple("=+-@\t\r") else cell
    value = cell.mean if isinstance(cell, Estimate) else cell
    return "" if value is None else repr(value)
