"""Run a published protocol exactly, and write down whether its numbers come out."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from kancl.config import ConfigError, RunConfig
from kancl.config.schema import NOT_HASHED
from kancl.protocols import SLACK, Judgement, Protocol, Row, judge_fall, read_protocol
from kancl.reading import in_one_line, read_bytes
from kancl.reporting.figures import (
    LearnedFunction,
    as_png,
    in_seeds,
    learned_functions,
    phase_diagram,
)
from kancl.reporting.table import Column, Table
from kancl.runner.identity import run_folder
from kancl.runner.request.compose import Request, read_request
from kancl.runner.studies.sweep import make_runs
from kancl.runs import write_whole
from kancl.runs.names import LEARNED_FUNCTION

RESULTS = "docs/results/{}.md"
SEEDS_WANTED = 10
NOTES = (
    "- ± is the standard error",
    "- Some rows have fewer",
    "- One seed has no spread",
)
"""How our own notes below a table begin."""
MOST_RESULTS = 2**22  # bytes
NUMBERS = {"paper %", "ours %", "difference", "tolerance", "seeds"}  # set right
KEYS = ("row", "incremental")  # the first columns, by which a row is known
SECTION = re.compile(r"(.*?^\| ---.*?\n|.*?\n)((?:^\|.*?\n)*)(.*)", re.M | re.S)
"""Down to the rule of the table (without one, the heading), its rows, and the rest."""


def reproduce(
    name: str,
    *,
    rows: Sequence[str] = (),
    n_seeds: int | None = None,
    overrides: Sequence[str] = (),
    results: Path | str | None = None,
    console: Console | None = None,
) -> list[Judgement]:
    """Run the rows of a protocol over seeds 0, 1, ...; print and write the verdicts.

    What a regression learned is drawn into ``<log_dir>/<protocol>``.

    Args:
        rows: by name (``lwf``, ``lwf/task``); all of them if none is named.
        n_seeds: the paper's number if None.
        overrides: where and how to run (``device=cuda``); those that change what is
            run take the verdicts away.
        results: file whose section of the protocol takes the rows in;
            ``docs/results/<protocol>.md`` if None.
    Raises: ConfigError, before anything is run, for what cannot work.
    """
    console = console or Console()
    say = partial(console.print, highlight=False, soft_wrap=True, markup=False)
    protocol = read_protocol(name)
    target = Path(results or RESULTS.format(name))
    check_writable(target)
    chosen = protocol.chosen(rows)
    seeds = ",".join(map(str, range(n_seeds or protocol.n_seeds)))
    keys = [text.partition("=")[0].lstrip("+~") for text in overrides]
    harmless = [k in NOT_HASHED or k.startswith(("hydra", "evaluation.")) for k in keys]
    altered = [text for text, is_how in zip(overrides, harmless) if not is_how]
    words = [f"seed={seeds}", *overrides]
    requests = {row: _request(protocol, row, words) for row in chosen if not row.falls}
    judged: dict[Row, Judgement] = {}
    for row in chosen:
        if row.falls:
            known = {other.name: judgement for other, judgement in judged.items()}
            judged[row] = judge_fall(row, known, bool(altered))
        else:
            made = make_runs(requests[row], console=console, quiet=True)
            done = [s[row.measure] for s in made if s["status"] == "completed"]
            n_lost, published = len(made) - len(done), protocol.paper_seeds
            judged[row] = Judgement(row, done, n_lost, published, bool(altered))
        # As soon as a row is known: all of them may take hours.
        cells = (judged[row].cells[title] for title in protocol.columns)
        say(" ".join(filter(None, cells)))
    judgements = list(judged.values())
    verdicts_table(protocol, judgements, altered).show(console)
    write_section(target, section(protocol, judgements, altered))
    say(f"written to {target}")
    worst = {
        row.name: (request.configs[0], max(judged[row].values))
        for row, request in requests.items()
        if judged[row].values
    }
    n_seeds = max((len(judgement.values) for judgement in judgements), default=1)
    for path in _draw_learned(name, worst, n_seeds):
        say(f"figure: {path}")
    return judgements


def _request(protocol: Protocol, row: Row, words: Sequence[str]) -> Request:
    shared = ["evaluation.samples=0", "tensorboard=none", *protocol.settings]
    if row.incremental is not None:
        shared.append(f"scenario.incremental={row.incremental}")
    return read_request([*shared, *row.settings, *words], sweep=True)


def _draw_learned(
    name: str, runs: Mapping[str, tuple[RunConfig, float]], n_seeds: int
) -> Iterator[Path]:
    """Draw what ``runs`` learned, by label, one seed each, with the largest increase of
    their error over ``n_seeds``.
    """
    flat: list[LearnedFunction] = []
    deep: list[LearnedFunction] = []
    lines: dict[str, list[tuple[int, float]]] = {}
    levels: dict[str, float] = {}
    for label, (config, worst) in runs.items():
        path = run_folder(config)
        if not (path / LEARNED_FUNCTION).is_file():
            continue
        function = LearnedFunction.read(path, label, f"old error +{worst:.1g}")
        if function.points.shape[1] > 1:
            deep.append(function)
            continue
        size, degree = (config.model.options.get(k) for k in ("grid_size", "degree"))
        if degree in (None, 3):
            flat.append(function)
        if size is None or config.model.options["base"]:
            levels[label] = worst
        else:
            lines.setdefault(f"degree {degree}", []).append((size, worst))
    figures, worst_of = {}, f"worst of {n_seeds} seeds" if n_seeds > 1 else in_seeds(1)
    seeds = f"functions of 1 seed, errors the {worst_of}" if n_seeds > 1 else worst_of
    if flat:
        figures["learned_functions"] = learned_functions(flat, seeds)
    if deep:
        title = f"two inputs: blue is 1, red is -1 ({seeds})"
        figures["learned_functions_2d"] = learned_functions(deep, title)
    if lines:
        title = f"five peaks in one dimension: what a finer grid keeps ({worst_of})"
        figures["phase_diagram"] = phase_diagram(lines, levels, title)
    for stem, figure in figures.items():
        path = Path(config.log_dir) / name / f"{stem}.png"
        write_whole(path, as_png(figure))
        yield path


def check_writable(path: Path) -> None:
    """Raises: ConfigError for a file that could not be written, days later."""
    existing = next(p for p in (path, *path.absolute().parents) if p.exists())
    if path.is_dir() or not (existing == path or existing.is_dir()):
        why = "is a folder" if path.is_dir() else f"cannot lie in {existing}, a file"
    elif not os.access(existing, os.W_OK):
        why = "cannot be written here"
    else:
        try:
            _read(path)
            return
        except (OSError, ValueError) as error:
            why = f"cannot be read as text ({in_one_line(error)})"
    raise ConfigError(f"--results {path} {why}; name another file")


def write_section(path: Path, text: str) -> None:
    """Put a section into a Markdown file; one of its name takes the new rows in.

    A row gives way to a new one of the same ``KEYS``; other rows and notes stay.

    Args:
        text: begins with its ``## heading`` and holds one table.
    """
    before = _read(path)
    sections = re.split(r"^(?=## )", before, flags=re.MULTILINE)
    heading = text.partition("\n")[0]
    for k, old in enumerate(sections):
        if old.partition("\n")[0] == heading:
            sections[k] = _merged(old, text) + "\n" * (k < len(sections) - 1)
            break
    else:
        sections = [f"{before.rstrip()}\n\n{text}"]
    write_whole(path, "".join(sections).encode())


def _read(path: Path) -> str:
    """The results so far. Raises: OSError or ValueError if they cannot be read."""
    return read_bytes(path, MOST_RESULTS).decode() if path.exists() else "# Results\n"


def _merged(old: str, new: str) -> str:
    def parts(section: str) -> list[list[str]]:
        match = SECTION.match(section.rstrip() + "\n")
        assert match is not None  # a section has a heading
        return [part.splitlines(keepends=True) for part in match.groups()]

    def cells(row: str) -> tuple[str, ...]:
        return tuple(cell.strip() for cell in row.split("|")[1:-1])

    (head, rows, notes), (_, old_rows, old_notes) = map(parts, (new, old))
    n_keys = sum(title in KEYS for title in cells(head[-2]))
    fresh = {cells(row)[:n_keys]: row for row in rows}
    only_new = fresh.keys() >= {cells(row)[:n_keys] for row in old_rows}
    again = NOTES if only_new else NOTES[:1]  # the others may hold for old rows
    merged = [fresh.pop(cells(row)[:n_keys], row) for row in old_rows]
    notes += [n for n in old_notes if n not in notes and not n.startswith(again)]
    return "".join([*head, *merged, *fresh.values(), *notes]).rstrip() + "\n"


def section(
    protocol: Protocol, judgements: Sequence[Judgement], altered: Sequence[str] = ()
) -> str:
    """The table in Markdown, below a heading and the source."""
    title = f"{protocol.name}, altered" if altered else protocol.name
    table = verdicts_table(protocol, judgements, altered)
    return f"## {title}\n\n{protocol.source}\n\n{table.markdown()}"


def verdicts_table(
    protocol: Protocol, judgements: Sequence[Judgement], altered: Sequence[str] = ()
) -> Table:
    """Rows with their verdicts, and what a reader has to know below."""
    notes = ["From the smallest to the largest of the seeds; the worst decides."]
    if "tolerance" in protocol.columns:
        rule = f"t sqrt(SEM_paper^2 + s^2 / n) + {SLACK} points, both ways; s is our "
        rule += "seeds' spread"
        has_error = {row.sem is not None for row in protocol.rows if row.paper}
        if True in has_error:
            rule += ", at least the most that the paper's seeds allow theirs to be"
        if False in has_error:
            where = "where" if True in has_error else "as"
            rule += f"; {where} the paper gives no error, SEM_paper is "
            rule += "s / sqrt(the paper's seeds)"
        rule += "; t is Student's 97.5 % quantile"
        notes = [f"± is the standard error of the mean; tolerance: {rule}."]
        if any(len(j.values) < SEEDS_WANTED for j in judgements):
            notes.append(f"Some rows have fewer seeds than {SEEDS_WANTED}.")
        if any(len(j.values) == 1 and j.tolerance is not None for j in judgements):
            notes.append("One seed has no spread: the paper's stands in.")
    if altered:
        changed = ", ".join(f"`{text}`" for text in altered)
        notes.append(f"NOT the protocol, so no verdict: {changed}.")
    columns = [Column(t, str if t in NUMBERS else None) for t in protocol.columns]
    rows = [[j.cells[title] for title in protocol.columns] for j in judgements]
    return Table("", columns, rows, notes=notes)
