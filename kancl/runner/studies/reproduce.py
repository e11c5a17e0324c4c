"""Run a published protocol exactly, and write down whether its numbers come out."""

from __future__ import annotations

from collections.abc import Sequence
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
    judge_fall,
    judgements_markdown,
    read_protocol,
)
from kancl.protocols.verdict import NUMBERS
from kancl.reporting import fitting_console
from kancl.runner.request.compose import Request, read_request
from kancl.runner.studies.launch import make_runs
from kancl.runner.studies.learned import draw_learned
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
    _show(protocol, judgements, console)
    write_section(Path(results), judgements_markdown(protocol, judgements, altered))
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


def _show(
    protocol: Protocol, judgements: Sequence[Judgement], console: Console
) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in protocol.columns:
        table.add_column(title, justify="right" if title in NUMBERS else "left")
    for judgement in judgements:
        style = {"PASS": "green", "FAIL": "bold red", "shown": ""}[judgement.verdict]
        cells = (judgement.cells[title] for title in protocol.columns)
        table.add_row(*cells, style=style)
    fitting_console(console).print(table)
