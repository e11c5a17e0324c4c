"""Run a published protocol exactly, and write down whether its numbers come out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from kancl.config.schema import NOT_HASHED
from kancl.protocols import (
    Judgement,
    Protocol,
    Row,
    judge,
    judge_fall,
    read_protocol,
)
from kancl.protocols.verdict import SLACK
from kancl.reporting.table import Column, Table
from kancl.runner.request.compose import Request, read_request
from kancl.runner.studies.launch import make_runs
from kancl.runner.studies.learned import draw_learned
from kancl.runner.studies.results_file import check_writable, write_section

SEEDS_WANTED = 10

NUMBERS = {"paper %", "ours %", "difference", "tolerance", "seeds"}
"""Titles of the columns that are set right."""


def reproduce(
    name: str,
    *,
    rows: Sequence[str] = (),
    n_seeds: int | None = None,
    overrides: Sequence[str] = (),
    results: Path | str = "RESULTS.md",
    console: Console | None = None,
) -> list[Judgement]:
    """Run the rows of a protocol over seeds 0, 1, ...; print and write the verdicts.

    What a regression learned is drawn into ``<log_dir>/<protocol>``.

    Args:
        rows: by name (``lwf``, ``lwf/task``); all of them if none is named.
        n_seeds: the paper's number if None.
        overrides: where and how to run (``device=cuda``); those that change what is
            run take the verdicts away.

    Raises: ConfigError, before anything is run, for what cannot work.
    """
    console = console or Console()
    check_writable(Path(results))
    protocol = read_protocol(name)
    chosen = protocol.chosen(rows)
    seeds = ",".join(map(str, range(n_seeds or protocol.n_seeds)))
    altered = [text for text in overrides if not _is_harmless(text)]
    requests = {
        row: _request(protocol, row, [f"seed={seeds}", *overrides])
        for row in chosen
        if not row.falls
    }
    judged: dict[Row, Judgement] = {}
    for row in chosen:
        if row.falls:
            known = {other.name: judgement for other, judgement in judged.items()}
            judged[row] = judge_fall(row, known, bool(altered))
        else:
            made = make_runs(requests[row], console=console, quiet=True)
            done = [s[row.measure] for s in made if s["status"] == "completed"]
            n_lost = len(made) - len(done)
            judged[row] = judge(row, done, n_lost, protocol.n_seeds, bool(altered))
        # As soon as a row is known: all of them may take hours.
        cells = (judged[row].cells[title] for title in protocol.columns)
        _say(console, " ".join(filter(None, cells)))
    judgements = list(judged.values())
    verdicts_table(protocol, judgements, altered).show(console)
    write_section(Path(results), section(protocol, judgements, altered))
    configs = {
        row.name: (request.configs[0], max(judged[row].values, default=None))
        for row, request in requests.items()
    }
    for path in draw_learned(name, configs):
        _say(console, f"figure: {path}")
    return judgements


def _request(protocol: Protocol, row: Row, words: Sequence[str]) -> Request:
    shared = ["evaluation.samples=0", "tensorboard=none", *protocol.settings]
    if row.incremental is not None:
        shared.append(f"scenario.incremental={row.incremental}")
    return read_request([*shared, *row.settings, *words], sweep=True)


def _is_harmless(override: str) -> bool:
    """Whether it says where and how a run is made, not what it is."""
    key = override.partition("=")[0].lstrip("+~")
    return key in NOT_HASHED or key.startswith(("hydra", "evaluation."))


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True, markup=False)


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
        rule = f"2 sqrt(SEM_paper^2 + SEM_ours^2) + {SLACK} points, both ways"
        notes = [f"± is the standard error of the mean; tolerance: {rule}."]
        fewest = min((len(j.values) for j in judgements), default=0)
        if fewest < SEEDS_WANTED:
            notes.append(f"Fewer seeds than {SEEDS_WANTED}: {fewest} at least.")
        if any(len(j.values) == 1 and j.tolerance is not None for j in judgements):
            spread = f"SEM_paper sqrt({protocol.n_seeds})"
            notes.append(f"One seed has no spread: the paper's, {spread}, stands in.")
    if altered:
        changed = ", ".join(f"`{text}`" for text in altered)
        notes.append(f"NOT the protocol, so no verdict: {changed}.")
    columns = [Column(t, str if t in NUMBERS else None) for t in protocol.columns]
    rows = [[j.cells[title] for title in protocol.columns] for j in judgements]
    return Table("", columns, rows, notes=notes)
