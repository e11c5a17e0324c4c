"""What the command line does: make runs, then lay them side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
from kancl.runs.names import COMPARISONS, EVENTS
from kancl.runs.status import report_failures


class Made(NamedTuple):
    """A run that has something to show."""

    config: RunConfig
    summary: dict[str, Any]

    @property
    def folder(self) -> Path:
        return run_folder(self.config)

    @property
    def label(self) -> str:
        return "{model}-{strategy}".format(**self.summary)

    @property
    def completed(self) -> bool:
        return bool(self.summary["status"] == "completed")


def execute(
    request: Request, *, console: Console | None = None, quiet: bool = False
) -> Summaries:
    """Make the runs, then print a table, the paths and the TensorBoard line."""
    console = console or Console()
    summaries = make_runs(request, console=console, quiet=quiet)
    made = [Made(*run) for run in zip(request.configs, summaries)]
    made = [run for run in made if "n_parameters" in run.summary]
    if not made:
        return summaries
    if len(made) == 1:
        run_table(made[0].summary).show(console)
        lines = [f"run folder: {made[0].folder}"]
    else:
        comparison_table([run.summary for run in made]).show(console)
        lines = _convergence(made, console)
        lines.append(f"figure and table: {_write_comparison(made)}")
    labels = list(dict.fromkeys(run.label for run in made))
    is_regression = any("average_rmse" in run.summary for run in made)
    url = dashboard_url(labels, score="rmse" if is_regression else "accuracy")
    lines += [tensorboard_command(made[0].config.log_dir), f"  {url}"]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    if len(summaries) > 1:
        report_failures(summaries)
    return summaries


def _write_comparison(made: Sequence[Made]) -> Path:
    """The table as Markdown and, of the first seed, the forgetting curves."""
    names = sorted(run.folder.name + str(run.folder.parent) for run in made)
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]
    first = made[0].config
    folder = Path(first.log_dir) / COMPARISONS / digest
    folder.mkdir(parents=True, exist_ok=True)
    table = comparison_table([run.summary for run in made])
    (folder / "comparison.md").write_text(table.markdown())
    curves = [
        Curves.from_measurements(read_measurements(run.folder), run.label)
        for run in made
        if run.config.seed == first.seed
        and run.completed
        and run.config.evaluation.samples
    ]
    if curves:
        for left in folder.glob(EVENTS):
            left.unlink()
        write_comparison(folder, curves)
        if first.tensorboard != "none":
            over_seeds = benchmarks([read_run(run.folder) for run in made])
            pictures = first.tensorboard == "all"
            write_over_seeds(folder / "over_seeds", over_seeds, pictures=pictures)
        forgetting_curves(curves).savefig(folder / "forgetting_curves.png")
    return folder


def _convergence(made: Sequence[Made], console: Console) -> list[str]:
    """Show learning curves where one experience was evaluated by epoch, and what they say."""
    epochs: dict[str, Epochs] = {}
    for run in made:
        model, by_epoch = run.summary["model"], run.config.evaluation.each_epoch
        if by_epoch and run.summary["n_experiences"] == 1 and run.completed:
            if model not in epochs:
                measured = read_measurements(run.folder)
                epochs[model] = Epochs.from_measurements(measured, model)
    variants = list(epochs.values())
    if variants:
        convergence_table(variants).show(console)
    return [
        answer
        for compared, reference in pairs(variants, lambda run: None)
        for answer in convergence_answers(compared, reference)
    ]
