"""Run a protocol of bounds, and draw what a regression has learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from kancl.protocols import (
    Bound,
    BoundJudgement,
    bounds_markdown,
    judge_bound,
    judge_fall,
    read_bounds,
)
from kancl.protocols.bounds import HEAD
from kancl.reporting import wide_console
from kancl.reporting.learned_function import (
    LearnedFunction,
    learned_functions,
    phase_diagram,
)
from kancl.runner.identity import run_folder
from kancl.runner.request.compose import Request, read_request
from kancl.runner.studies.launch import Summaries, make_runs
from kancl.runner.studies.reproduce import is_harmless
from kancl.runner.studies.results_file import check_writable, write_section
from kancl.runs.names import LEARNED_FUNCTION
from kancl.runs.reader import read_table


def reproduce_bounds(
    name: str,
    *,
    rows: Sequence[str] = (),
    n_seeds: int | None = None,
    overrides: Sequence[str] = (),
    results: Path | str = "RESULTS.md",
    console: Console | None = None,
) -> list[BoundJudgement]:
    """Run the rows over seeds 0, 1, ...; print and write the verdicts, and the figures
    into ``<log_dir>/<protocol>``.

    Args as in ``reproduce``.

    Raises: ConfigError, before anything is run, for what cannot work.
    """
    console = console or Console()
    check_writable(Path(results))
    protocol = read_bounds(name)
    chosen = protocol.chosen(rows)
    seeds = ",".join(map(str, range(n_seeds or protocol.n_seeds)))
    altered = [text for text in overrides if not is_harmless(text)]
    words = ["evaluation.samples=0", "tensorboard=none", *protocol.settings]
    requests = {
        row.name: read_request(
            [*words, *row.settings, f"seed={seeds}", *overrides], sweep=True
        )
        for row in chosen
        if not row.falls
    }
    judged: dict[str, BoundJudgement] = {}
    for row in chosen:
        if row.falls:
            judged[row.name] = judge_fall(row, judged)
        else:
            summaries = make_runs(requests[row.name], console=console, quiet=True)
            judged[row.name] = _judge(row, summaries)
        if altered:
            judged[row.name] = replace(judged[row.name], verdict="shown")
        line = " ".join(filter(None, judged[row.name].cells))
        console.print(line, highlight=False, soft_wrap=True)
    judgements = list(judged.values())
    _show(judgements, console)
    text = bounds_markdown(protocol, judgements, altered)
    write_section(Path(results), text)
    for path in _draw(protocol.name, chosen, requests, judged):
        console.print(f"figure: {path}", highlight=False, soft_wrap=True)
    return judgements


def _judge(row: Bound, summaries: Summaries) -> BoundJudgement:
    done = [s[row.measure] for s in summaries if s["status"] == "completed"]
    return judge_bound(row, done, len(summaries) - len(done))


def _show(judgements: Sequence[BoundJudgement], console: Console) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in HEAD:
        table.add_column(title)
    for judgement in judgements:
        style = {"PASS": "green", "FAIL": "bold red", "shown": ""}[judgement.verdict]
        table.add_row(*judgement.cells, style=style)
    wide_console(console).print(table)


def _draw(
    name: str,
    rows: Sequence[Bound],
    requests: Mapping[str, Request],
    judged: Mapping[str, BoundJudgement],
) -> list[Path]:
    """The functions learned by the first seed's networks, and the phase diagram."""
    flat: list[LearnedFunction] = []
    deep: list[LearnedFunction] = []
    lines: dict[str, list[tuple[int, float]]] = {}
    levels: dict[str, float] = {}
    for row in rows:
        if row.falls or not judged[row.name].values:
            continue
        config = requests[row.name].configs[0]
        worst = max(judged[row.name].values)
        function = read_learned(run_folder(config), row.name, f"old error +{worst:.1g}")
        if function.points.shape[1] > 1:
            deep.append(function)
            continue
        size, degree = (config.model.options.get(k) for k in ("grid_size", "degree"))
        if degree in (None, 3):
            flat.append(function)
        if size is None or config.model.options["base"]:
            levels[row.name] = worst
        else:
            lines.setdefault(f"degree {degree}", []).append((size, worst))
    folder = Path(next(iter(requests.values())).configs[0].log_dir) / name
    figures = {}
    if flat:
        figures["learned_functions"] = learned_functions(flat)
    if deep:
        title = "two inputs: blue is 1, red is -1"
        figures["learned_functions_2d"] = learned_functions(deep, title)
    if lines:
        figures["phase_diagram"] = phase_diagram(lines, levels)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for title, figure in figures.items():
        paths.append(folder / f"{title}.png")
        figure.savefig(paths[-1])
    return paths


def read_learned(folder: Path, label: str, note: str = "") -> LearnedFunction:
    """What a run folder keeps of the function learned."""
    header, rows = read_table(folder / LEARNED_FUNCTION)
    columns = rows.T
    n_inputs = header.index("target")
    return LearnedFunction(
        label,
        columns[:n_inputs].T,
        columns[n_inputs],
        list(columns[n_inputs + 1 :]),
        note,
    )
