"""Make the runs that a command line asks for, then lay them side by side."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from kancl.config import ConfigError, RunConfig
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
from kancl.runner.build import Parts
from kancl.runner.check import check
from kancl.runner.identity import run_folder
from kancl.runner.launchers import launch, warn
from kancl.runner.request.compose import Request
from kancl.runner.run import run
from kancl.runs import RunLocked, lock_holder, read_measurements, read_run
from kancl.runs.files import try_json
from kancl.runs.names import COMPARISONS, EVENTS, SUMMARY
from kancl.runs.reader import read_completed
from kancl.runs.status import note_sweep, report_failures

Summary = dict[str, Any]


class Made(NamedTuple):
    """A run that has something to show."""

    config: RunConfig
    summary: Summary

    @property
    def folder(self) -> Path:
        return run_folder(self.config)

    @property
    def label(self) -> str:
        return "{model}-{strategy}".format(**self.summary)


def execute(
    request: Request, *, console: Console | None = None, quiet: bool = False
) -> list[Summary]:
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


def make_runs(request: Request, *, console: Console, quiet: bool) -> list[Summary]:
    """Run what is not completed yet; summaries of all, in the order asked for.

    No run takes others down: one that fails, or that another process is making, has a
    summary that says so (``status`` is ``failed`` or ``running``), and the next follows.

    Raises: ConfigError, before the first run, if one of them cannot work.
    """
    configs = request.configs
    to_do = [c for c in configs if c.overwrite or read_completed(run_folder(c)) is None]
    parts = check(to_do)
    if len(configs) > 1:
        note_sweep(Path(configs[0].log_dir), [run_folder(c) for c in configs])
    if not request.launcher:
        return [
            _make(config, console, quiet, parts if config in to_do[:1] else None)
            for config in configs
        ]
    for config in configs:
        if config not in to_do and not quiet:
            run(config, console=console)  # says that it is skipped
    if to_do:
        launch(to_do, request.launcher, _make)
    return [_summary(config) for config in configs]


def _make(
    config: RunConfig,
    console: Console = Console(quiet=True),
    quiet: bool = True,
    parts: Parts | None = None,
) -> Summary:
    """One run of several; whatever goes wrong with it becomes part of its summary."""
    try:
        summary = run(config, parts=parts, console=console, quiet=quiet)
    except RunLocked as locked:
        warn(f"{locked}; left to it")
        return _without_result(config, "running", str(locked))
    except ConfigError:
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        summary = _without_result(config, "failed", why)
    if summary["status"] != "completed":
        why = summary.get("error", "")
        warn(f"{run_folder(config)} {summary['status']}: {why}")
    return summary


def _summary(config: RunConfig) -> Summary:
    """What a launcher's process has written down."""
    folder = run_folder(config)
    summary, owner = try_json(folder / SUMMARY), lock_holder(folder)
    if owner is not None:
        return _without_result(config, "running", f"it is being made by {owner}")
    why = "its process ended without a result; the same command makes it again"
    return summary or _without_result(config, "failed", why)


def _without_result(config: RunConfig, status: str, error: str) -> Summary:
    return {
        "scenario": run_folder(config).parts[-3],
        "model": config.model.name,
        "strategy": config.strategy.name,
        "seed": config.seed,
        "status": status,
        "error": error,
    }


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
        if run.config.seed == first.seed and run.config.evaluation.samples
        if run.summary["status"] == "completed"
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
    for one in made:
        model, by_epoch = one.summary["model"], one.config.evaluation.each_epoch
        facts = one.summary["status"], one.summary["n_experiences"]
        if by_epoch and facts == ("completed", 1) and model not in epochs:
            measured = read_measurements(one.folder)
            epochs[model] = Epochs.from_measurements(measured, model)
    variants = list(epochs.values())
    if variants:
        convergence_table(variants).show(console)
    return [
        answer
        for compared, reference in pairs(variants, lambda run: None)
        for answer in convergence_answers(compared, reference)
    ]
