"""Run a published protocol exactly, and write down whether its numbers come out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from kancl.config.schema import NOT_HASHED
from kancl.protocols import (
    Judgement,
    Protocol,
    Row,
    judge,
    judgements_markdown,
    read_protocol,
)
from kancl.protocols.protocol import HEAD
from kancl.reporting import wide_console
from kancl.runner.request.compose import Request, read_request
from kancl.runner.studies.launch import make_runs
from kancl.runner.studies.results_file import check_writable, write_section


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

    Args:
        rows: methods by name (``lwf``, ``lwf/task``); all of them if none is named.
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
    altered = [text for text in overrides if not is_harmless(text)]
    requests = [_request(protocol, row, seeds, overrides) for row in chosen]
    judgements = []
    for row, request in zip(chosen, requests):
        judgement = _run(row, request, protocol.n_seeds, console)
        if altered:
            judgement = replace(judgement, verdict="shown")
        judgements.append(judgement)
        _say(judgement, console)
    _show(judgements, console)
    text = judgements_markdown(protocol, judgements, altered)
    write_section(Path(results), text, n_keys=2)
    return judgements


def _request(
    protocol: Protocol, row: Row, seeds: str, overrides: Sequence[str]
) -> Request:
    words = ["evaluation.samples=0", "tensorboard=none", *protocol.settings]
    if row.incremental is not None:
        words.append(f"scenario.incremental={row.incremental}")
    words += row.settings
    return read_request([*words, f"seed={seeds}", *overrides], sweep=True)


def _run(row: Row, request: Request, paper_seeds: int, console: Console) -> Judgement:
    summaries = make_runs(request, console=console, quiet=True)
    done = [s["average_accuracy"] for s in summaries if s["status"] == "completed"]
    return judge(row, done, len(summaries) - len(done), paper_seeds)


def _say(judgement: Judgement, console: Console) -> None:
    """As soon as a row is known; all of them may take hours."""
    line = " ".join(cell for cell in judgement.cells if cell)
    console.print(line, highlight=False, soft_wrap=True, markup=False)


def is_harmless(override: str) -> bool:
    """Whether it says where and how a run is made, not what it is."""
    key = override.partition("=")[0].lstrip("+~")
    return key in NOT_HASHED or key.startswith(("hydra", "evaluation."))


def _show(judgements: Sequence[Judgement], console: Console) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for k, title in enumerate(HEAD):
        table.add_column(title, justify="right" if 2 <= k <= 6 else "left")
    for judgement in judgements:
        style = {"PASS": "green", "FAIL": "bold red", "shown": ""}[judgement.verdict]
        table.add_row(*judgement.cells, style=style)
    wide_console(console).print(table)
