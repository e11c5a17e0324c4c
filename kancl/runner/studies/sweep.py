"""Make the runs that a command line asks for, then lay them side by side."""

import hashlib
import json
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console

from kancl import reporting
from kancl.config import ConfigError, RunConfig, plain
from kancl.config.files import flat, nested
from kancl.config.values import shown
from kancl.metrics.score_matrix import ACCURACY, RMSE
from kancl.reading import try_json
from kancl.reporting.figures import as_png
from kancl.reporting.groups import forgetting_curves, write_groups
from kancl.reporting.progress import duration
from kancl.reporting.report import benchmarks
from kancl.reporting.table import Table
from kancl.runner.build import Parts
from kancl.runner.check import check
from kancl.runner.identity import run_folder
from kancl.runner.launchers import launch, warn
from kancl.runner.machine import taking_turns
from kancl.runner.request.compose import Request
from kancl.runner.run import run
from kancl.runs import RunLocked, lock_holder, write_whole
from kancl.runs.files import own_folder
from kancl.runs.names import COMPARISONS, EVENTS, REPLACEMENT, RUNS, SUMMARY
from kancl.runs.reader import read_run
from kancl.runs.replacement import replacing
from kancl.runs.status import note_sweep, read_completed, report_failures

COMPARISON = ("comparison.md", RUNS, "forgetting_curves*.png", f"*{EVENTS}")
"""Patterns of a comparison's files."""
Summary = dict[str, Any]


Made = Sequence[tuple[RunConfig, Summary]]  # runs that have something to show


def execute(
    request: Request, *, console: Console | None = None, quiet: bool = False
) -> list[Summary]:
    """Make the runs, then print a table, the paths and the TensorBoard line."""
    console = console or Console()
    summaries = make_runs(request, console=console, quiet=quiet)
    made = [run for run in zip(request.configs, summaries) if "n_parameters" in run[1]]
    if not made:
        return summaries
    first, summary = made[0]
    if len(made) == 1:
        reporting.run_table(summary).show(console)
        folder = run_folder(first)
        lines = [f"run folder: {folder}"]
        shown_runs = re.escape(folder.relative_to(first.log_dir).as_posix())
        logs = first.log_dir
    else:
        table = reporting.comparison_table([summary for _, summary in made])
        table.show(console)
        lines = _convergence(made, console)
        folder = _write_comparison(made, table)
        lines.append(f"figure and table: {folder}")
        # in the comparison's own folder, and in that of all runs
        shown_runs = rf"(^|/{re.escape(folder.name)}/)[^/]+(/(low|high))?$"
        logs = str(folder)
    if any(config.events != "none" for config, _ in made):
        is_regression = any("average_rmse" in summary for _, summary in made)
        score = RMSE if is_regression else ACCURACY
        url = reporting.dashboard_url(shown_runs, score)
        lines += [reporting.tensorboard_command(logs), f"  {url}"]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    if len(summaries) > 1:
        report_failures(summaries)
    return summaries


def show_plan(request: Request, console: Console | None = None) -> None:
    """Print what all runs share, as YAML, and of each its folder and what is its own.

    Raises: ConfigError if one of them cannot work; nothing is trained or written.
    """
    console = console or Console()
    say = partial(console.print, highlight=False, soft_wrap=True, markup=False)
    check(request.configs)
    each = [flat(plain(config)) for config in request.configs]
    values_of: dict[str, list[Any]] = {}
    for values in each:
        for key, value in values.items():
            values_of.setdefault(key, []).append(value)
    alike = {k: v[0] for k, v in values_of.items() if all(w == v[0] for w in v)}
    shared = {k: v for k, v in alike.items() if len(values_of[k]) == len(each)}
    say(OmegaConf.to_yaml(nested(shared)), end="")
    parts: dict[str, list[str]] = {}  # keys that only some builders have
    for config, values in zip(request.configs, each):
        for key in values.keys() & alike.keys() - shared.keys():
            group = key.partition(".")[0]
            whose = f"{group}={getattr(config, group).name}"
            words = parts.setdefault(whose, [])
            if (word := f"{key}={shown(values[key])}") not in words:
                words.append(word)
    for whose, words in sorted(parts.items()):
        say(f"{whose}: {' '.join(sorted(words))}")
    own = [key for key in values_of if key not in alike]
    n_done = 0
    for config, values in zip(request.configs, each):
        folder = run_folder(config)
        is_done = read_completed(folder) is not None and not config.overwrite
        n_done += is_done
        words = [f"{key}={shown(values[key])}" for key in own if key in values]
        say(" ".join([str(folder), *words, *["(completed)"] * is_done]))
    n = len(request.configs)
    say(f"{n} run{'s' * (n > 1)}, {n - n_done} to be made; nothing was trained")


def make_runs(request: Request, *, console: Console, quiet: bool) -> list[Summary]:
    """Run what is not completed yet; summaries of all, in the order asked for.

    No run takes others down: one that fails, or that another process is making, has a
    summary that says so (``status`` is ``failed`` or ``running``), and the next follows.

    Raises: ConfigError, before the first run, if one of them cannot work.
    """
    configs = request.configs
    to_do = [c for c in configs if c.overwrite or read_completed(run_folder(c)) is None]
    if not request.launcher:
        return _make_here(configs, to_do, console, quiet)
    _check(configs, to_do)
    for config in configs:
        if config not in to_do and not quiet:
            run(config, console=console)  # says that it is skipped
    if to_do:
        launch(to_do, request.launcher, _make)
    return [_summary(config) for config in configs]


def _check(configs: Sequence[RunConfig], to_do: Sequence[RunConfig]) -> Parts | None:
    parts = check(to_do)
    if len(configs) > 1:
        note_sweep(Path(configs[0].log_dir), [run_folder(c) for c in configs])
    return parts


@taking_turns()
def _make_here(
    configs: Sequence[RunConfig],
    to_do: Sequence[RunConfig],
    console: Console,
    quiet: bool,
) -> list[Summary]:
    parts = _check(configs, to_do)
    if len(configs) == 1:
        return [_make(configs[0], console, quiet, parts)]
    summaries, n, started = list[Summary](), 0, perf_counter()
    for config in configs:
        if config in to_do and len(to_do) > 1 and not quiet:
            seconds = (perf_counter() - started) / max(n, 1) * (len(to_do) - n)
            left = f", {duration(seconds)} left" if n else ""
            n += 1
            console.print(f"run {n} of {len(to_do)}{left}", highlight=False)
        try:
            own = parts if config in to_do[:1] else None
            summaries.append(_make(config, console, quiet, own))
        except ConfigError as error:  # its folder is a file, say: the others go on
            warn(str(error))
            summaries.append(_without_result(config, "failed", str(error)))
    return summaries


def _make(
    config: RunConfig,
    console: Console = Console(quiet=True),
    quiet: bool = True,
    parts: Parts | None = None,
) -> Summary:
    """One run of several; whatever goes wrong with it becomes part of its summary.

    Raises: ConfigError if it cannot be begun.
    """
    try:
        summary = run(config, parts=parts, console=console, quiet=quiet)
    except RunLocked as locked:
        warn(f"{locked}; left to it")
        return _without_result(config, "running", str(locked))
    except ConfigError:
        raise
    except Exception as error:
        summary = _without_result(config, "failed", f"{type(error).__name__}: {error}")
    if summary["status"] != "completed":
        why = summary.get("error", "")
        warn(f"{run_folder(config)} {summary['status']}: {why}")
    return summary


def _summary(config: RunConfig) -> Summary:
    """What a launcher's process has written down."""
    folder = run_folder(config)
    summary, owner = try_json(folder / SUMMARY), lock_holder(folder)
    if config.overwrite:  # one that did not take the old one's place
        summary = try_json(folder / REPLACEMENT / SUMMARY) or summary
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


def _write_comparison(made: Made, table: Table) -> Path:
    """The table as Markdown, the list of runs, and the forgetting curves: of every model
    and strategy the mean over the seeds.
    """
    folders = [run_folder(config) for config, _ in made]
    first = made[0][0]
    runs = [folder.relative_to(first.log_dir).as_posix() for folder in folders]
    digest = hashlib.sha256("\n".join(sorted(runs)).encode()).hexdigest()[:8]
    folder = own_folder(Path(first.log_dir) / COMPARISONS / digest)
    found = {path: read_run(path) for path in folders}
    for path, (_, summary) in zip(folders, made):
        if summary["status"] == "completed" and not found[path].completed:
            warn(f"{path} is in no figure: {found[path].problems[0]}")
    groups = benchmarks(list(found.values()))
    with replacing(folder, *COMPARISON) as new:
        write_whole(new / "comparison.md", table.markdown().encode())
        write_whole(new / RUNS, (json.dumps({"runs": runs}, indent=1) + "\n").encode())
        if first.events != "none":
            write_groups(new, groups, pictures=first.events == "all")
        for group in groups:
            if (figure := forgetting_curves(group)) is not None:
                place = f"-{group.slug}" if len(groups) > 1 else ""
                write_whole(new / f"forgetting_curves{place}.png", as_png(figure))
    return folder


def _convergence(made: Made, console: Console) -> list[str]:
    """Show learning curves where one experience was evaluated by epoch, and what they say."""
    epochs: dict[str, reporting.Epochs] = {}
    for config, summary in made:
        model, facts = summary["model"], (summary["status"], summary["n_experiences"])
        is_one = config.evaluation.each_epoch and facts == ("completed", 1)
        if is_one and model not in epochs:
            measured = read_run(run_folder(config)).metrics
            if measured:
                epochs[model] = reporting.Epochs.from_measurements(measured, model)
    variants = list(epochs.values())
    if variants:
        reporting.convergence_table(variants).show(console)
    return [
        answer
        for compared, reference in reporting.pairs(variants, lambda run: None)
        for answer in reporting.convergence_answers(compared, reference)
    ]
