"""What the command line does: make runs, then lay them side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from kancl.config import RunConfig
from kancl.reporting import (
    Curves,
    Epochs,
    comparison_table,
    convergence_answers,
    convergence_table,
    dashboard_url,
    forgetting_curves,
    pairs,
    run_table,
    tensorboard_command,
    write_comparison,
)
from kancl.reporting.report import benchmarks, write_over_seeds
from kancl.runner.identity import run_folder
from kancl.runner.request.compose import Request
from kancl.runner.studies.launch import Summaries, make_runs
from kancl.runs import read_measurements, read_run
from kancl.runs.names import COMPARISONS
from kancl.runs.status import report_failures


def execute(
    request: Request, *, console: Console | None = None, quiet: bool = False
) -> Summaries:
    """Make the runs, then print a table, the paths and the TensorBoard line."""
    console = console or Console()
    made = make_runs(request, console=console, quiet=quiet)
    shown = [k for k, summary in enumerate(made) if "n_parameters" in summary]
    if not shown:
        return made
    if len(shown) < len(made):
        request = replace(request, configs=[request.configs[k] for k in shown])
    summaries = [made[k] for k in shown]
    folders = [run_folder(config) for config in request.configs]
    lines: list[str] = []
    if len(summaries) == 1:
        run_table(summaries[0]).show(console)
        lines.append(f"run folder: {folders[0]}")
    else:
        comparison_table(summaries).show(console)
        _show_convergence(request.configs, summaries, folders, console)
        folder = _write_comparison(request.configs, summaries, folders)
        lines.append(f"figure and table: {folder}")
    log_dir = request.configs[0].log_dir
    labels = list(dict.fromkeys(f"{s['model']}-{s['strategy']}" for s in summaries))
    score = "rmse" if any("average_rmse" in s for s in summaries) else "accuracy"
    url = dashboard_url(labels, score=score)
    lines += [tensorboard_command(log_dir), f"  {url}"]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    if len(made) > 1:
        report_failures(made)
    return made


def _write_comparison(
    configs: Sequence[RunConfig], summaries: Summaries, folders: Sequence[Path]
) -> Path:
    """The table as Markdown and, of the first seed, the forgetting curves."""
    names = "\n".join(sorted(folder.name + str(folder.parent) for folder in folders))
    folder = (
        Path(configs[0].log_dir)
        / COMPARISONS
        / hashlib.sha256(names.encode()).hexdigest()[:8]
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.md").write_text(comparison_table(summaries).markdown())
    curves = [
        _curves(path, summary)
        for config, summary, path in zip(configs, summaries, folders)
        if config.seed == configs[0].seed
        and summary["status"] == "completed"
        and config.evaluation.samples
    ]
    if curves:
        for left in folder.glob("events.out.*"):
            left.unlink()
        write_comparison(folder, curves)
        if configs[0].tensorboard != "none":
            _write_over_seeds(folder / "over_seeds", configs, folders)
        forgetting_curves(curves).savefig(folder / "forgetting_curves.png")
    return folder


def _write_over_seeds(
    folder: Path, configs: Sequence[RunConfig], folders: Sequence[Path]
) -> None:
    """Means and bands in TensorBoard, of what several seeds were run of."""
    groups = benchmarks([read_run(path) for path in folders])
    pictures = configs[0].tensorboard == "all"
    write_over_seeds(folder, groups, pictures=pictures)


def _show_convergence(
    configs: Sequence[RunConfig],
    summaries: Summaries,
    folders: Sequence[Path],
    console: Console,
) -> None:
    """Learning curves laid side by side, where one experience was evaluated by epoch."""
    runs: dict[str, Epochs] = {}
    for config, summary, folder in zip(configs, summaries, folders):
        if config.evaluation.each_epoch and summary["n_experiences"] == 1:
            if summary["status"] == "completed" and summary["model"] not in runs:
                label = summary["model"]
                runs[label] = Epochs.from_measurements(read_measurements(folder), label)
    measured = list(runs.values())
    if measured:
        convergence_table(measured).show(console)
    for compared, reference in pairs(measured, lambda run: None):
        for answer in convergence_answers(compared, reference):
            console.print(answer, highlight=False, soft_wrap=True, markup=False)


def _curves(folder: Path, summary: dict[str, Any]) -> Curves:
    label = f"{summary['model']}-{summary['strategy']}"
    return Curves.from_measurements(read_measurements(folder), label)
