"""Make the runs that a command line asks for, then lay them side by side."""

import hashlib
import os
import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.style import Style
from rich.text import Text

from kancl import reporting
from kancl.config import ConfigError, RunConfig, plain
from kancl.config.files import flat, nested
from kancl.config.typed import hashed
from kancl.config.values import as_typed, short, shown
from kancl.metrics.score_matrix import ACCURACY, RMSE
from kancl.reading import try_json
from kancl.reporting.figures import as_png
from kancl.reporting.groups import forgetting_curves, write_groups
from kancl.reporting.progress import Place, finished
from kancl.reporting.report import benchmarks
from kancl.reporting.table import Table
from kancl.reporting.variants import telling
from kancl.runner.build import Parts
from kancl.runner.check import check
from kancl.runner.identity import run_folder
from kancl.runner.launchers import launch, warn, watching
from kancl.runner.machine import taking_turns
from kancl.runner.request.compose import Request
from kancl.runner.run import run
from kancl.runs import RunLocked, lock_holder, write_whole
from kancl.runs.files import folders_called, own_folder
from kancl.runs.names import COMPARISONS, ERROR, EVENTS, REPLACEMENT, SUMMARY, clean
from kancl.runs.reader import Run, find_runs, read_run
from kancl.runs.replacement import replacing
from kancl.runs.status import note_runs, read_completed, report_failures

COMPARISON = (
    *("comparison.md", "comparison.csv"),
    *("forgetting_curves*.png", f"*{EVENTS}"),
)
"""Patterns of a comparison's files."""
LINE = 200  # columns, where there is no terminal
MOST_WORD, MOST_TITLE = 32, 64
"""Letters of what differs in one key, and in all, in the name of a comparison's folder."""
Summary = dict[str, Any]


Made = Sequence[tuple[RunConfig, Summary]]  # runs that have something to show


def execute(
    request: Request, *, console: Console | None = None, quiet: bool = False
) -> list[Summary]:
    """Make the runs, then print a table, what to open, and what to type next."""
    console = console or Console()
    summaries = make_runs(request, console=console, quiet=quiet)
    if len(summaries) > 1:
        report_failures(summaries)
    made = [run for run in zip(request.configs, summaries) if "n_parameters" in run[1]]
    if not made:
        return summaries
    say = partial(console.print, highlight=False, soft_wrap=True, markup=False)
    first, summary = made[0]
    if len(made) == 1:
        folder = run_folder(first)
        reporting.run_table(summary).show(console)
        pattern = re.escape(folder.relative_to(first.log_dir).as_posix())
        logs = Path(first.log_dir)
    else:
        for line in _convergence(made, console):
            say(line)
        runs = [_as_it_ended(*run) for run in made]
        table = reporting.comparison_table(runs)
        folder = comparison_folder(request)
        _write_comparison(folder, first, runs, table)
        table.show(console)
        # in the comparison's own folder, and in that of all runs
        pattern, logs = rf"(^|/{re.escape(folder.name)}/)[^/]+(/(low|high))?$", folder
    if any(config.events != "none" for config, _ in made):
        is_regression = any("average_rmse" in summary for _, summary in made)
        url = reporting.dashboard_url(pattern, RMSE if is_regression else ACCURACY)
        say("open:", reporting.tensorboard_command(logs), _link(url, console))
    else:
        say("open:", folder)
    say("next:", as_typed("kancl", "report", folder))
    return summaries


def compare_folders(folders: Sequence[str], console: Console | None = None) -> None:
    """Lay the runs in and below folders side by side; nothing is trained or written.

    Raises: ConfigError if one of them is none, or there are no runs.
    """
    for word in folders:
        if not all(map(Path.is_dir, folders_called(word))):
            why = (
                "FOLDERs are compared without keys"
                if "=" in word
                else "runs are in logs"
            )
            raise ConfigError(f"{word} is no folder: {why}")
    console = console or Console()
    say = partial(console.print, highlight=False, soft_wrap=True, markup=False)
    runs = find_runs(folders_called(*folders))
    reporting.comparison_table(runs).show(console)
    around = os.path.relpath(os.path.commonpath([run.folder for run in runs]))
    say("open:", reporting.tensorboard_command(around))
    say("next:", as_typed("kancl", "report", *folders))


def _link(url: str, console: Console) -> Text:
    """The address, which a terminal shows without the words after its path."""
    if not console.is_terminal:
        return Text(url)
    return Text(url.partition("/?")[0], style=Style(link=url, underline=True))


def _as_it_ended(config: RunConfig, summary: Summary) -> Run:
    """The run as its folder tells it, and the end that it came to just now."""
    folder = run_folder(config)
    found = read_run(folder)
    if summary["status"] == "completed" and not found.completed:
        warn(f"{folder} is in no table: {found.problems[0]}")
        return replace(found, config=plain(config), summary=summary)
    if found.summary != summary:  # it did not take an old one's place
        return replace(found, summary=summary, status=summary["status"])
    return found


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
        return _make_here(request, to_do, console, quiet)
    _check(request, to_do, console, quiet)
    if not quiet and (n_done := len(configs) - len(to_do)):
        _say_skipped(n_done, len(configs), console)
    place, titles = Place(len(to_do)), dict(zip(map(id, configs), _titles(configs)))

    def ended(config: RunConfig) -> None:
        place.n_begun += 1
        _say_ended(place, titles[id(config)], _summary(config), console, quiet)

    if to_do:
        if not quiet:
            status = as_typed("kancl", "status", configs[0].log_dir)
            text = f"{len(to_do)} runs, a line as each ends; meanwhile: {status}"
            console.print(text, highlight=False, soft_wrap=True, markup=False)
        with watching(to_do, ended):
            launch(to_do, request.launcher, _make_of_several)
    return [_summary(config) for config in configs]


def _check(
    request: Request, to_do: Sequence[RunConfig], console: Console, quiet: bool
) -> Parts | None:
    is_shown = console.is_terminal and not quiet and not console.is_jupyter
    with console.status("checking what is asked for") if is_shown else nullcontext():
        parts = check(to_do)
    if len(request.configs) > 1:
        note_runs(comparison_folder(request), [run_folder(c) for c in request.configs])
    return parts


@taking_turns()
def _make_here(
    request: Request,
    to_do: Sequence[RunConfig],
    console: Console,
    quiet: bool,
) -> list[Summary]:
    configs, parts = request.configs, _check(request, to_do, console, quiet)
    if len(configs) == 1:
        return [_make(configs[0], console, quiet, parts)]
    summaries, place = list[Summary](), Place(len(to_do))
    if not quiet and (n_done := len(configs) - len(to_do)):
        _say_skipped(n_done, len(configs), console)
    titles = dict(zip(map(id, configs), _titles(configs)))
    for config in configs:
        if config in to_do:
            place.n_begun += 1
        own = parts if config in to_do[:1] else None
        summaries.append(_make_of_several(config, console, quiet, own, place))
        if config in to_do:
            _say_ended(place, titles[id(config)], summaries[-1], console, quiet)
    return summaries


def _say_ended(
    place: Place, title: str, summary: Summary, console: Console, quiet: bool
) -> None:
    if not quiet:
        width = console.width if console.is_terminal else LINE
        line = finished(place, title, summary, width)
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _say_skipped(n: int, n_all: int, console: Console) -> None:
    text = f"{n} of {n_all} runs were completed before, skipped (overwrite=true)"
    console.print(text, highlight=False, soft_wrap=True)


def _titles(configs: Sequence[RunConfig]) -> list[str]:
    """``kan-ewc lr=0.01 seed 1``: each run by what tells it from the others."""
    each = [flat(plain(config)) for config in configs]
    named = ("model", "strategy", "match_to", "seed")
    keys = [key for key in telling(each) if not key.startswith(named)]
    return [
        " ".join(
            [
                config.label,
                *(f"{short(k)}={shown(v[k])}" for k in keys),
                f"seed {config.seed}",
            ]
        )
        for config, v in zip(configs, each)
    ]


def _make(
    config: RunConfig,
    console: Console = Console(quiet=True),
    quiet: bool = True,
    parts: Parts | None = None,
    place: Place | None = None,
) -> Summary:
    """One run of several; whatever goes wrong with it becomes part of its summary.

    Raises: ConfigError if it cannot be begun.
    """
    try:
        summary = run(config, parts=parts, console=console, quiet=quiet, place=place)
    except RunLocked as locked:
        warn(f"{locked}; left to it")
        return _without_result(config, "running", str(locked))
    except ConfigError:
        raise
    except Exception as error:
        summary = _without_result(config, "failed", f"{type(error).__name__}: {error}")
    if summary["status"] != "completed":
        folder, why = run_folder(config), summary.get("error", "")
        trace = f" (traceback: {ERROR})" if (folder / ERROR).is_file() else ""
        warn(f"{folder} {summary['status']}: {why}{trace}")
    return summary


def _make_of_several(config: RunConfig, *how: Any) -> Summary:
    """``_make``, but a run that cannot be begun, as its folder is a file, say, stops no
    other.
    """
    try:
        return _make(config, *how)
    except ConfigError as error:
        warn(str(error))
        return _without_result(config, "failed", str(error))


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


def comparison_folder(request: Request) -> Path:
    """``log_dir/comparisons/<name>``, or what differs between the runs and a hash."""
    configs, log_dir = request.configs, Path(request.configs[0].log_dir)
    if request.name is not None:
        return log_dir / COMPARISONS / request.name
    runs = sorted(str(run_folder(config).relative_to(log_dir)) for config in configs)
    digest = hashlib.sha256("\n".join(runs).encode()).hexdigest()[:8]
    words = ["-".join({config.model.name: None for config in configs})]
    words.append("-".join({config.strategy.name: None for config in configs}))
    each = [hashed(config) for config in configs]
    for key in telling(each):
        if not key.startswith(("model.name", "strategy.name", "match_to.", "seed")):
            values = dict.fromkeys(shown(v[key]) for v in each)
            words.append(f"{short(key)}={'-'.join(values)}")
    n_seeds = len({config.seed for config in configs})
    words += [f"{n_seeds}-seeds"] * (n_seeds > 1)
    title = "_".join(clean(word, MOST_WORD) for word in words)[:MOST_TITLE]
    return log_dir / COMPARISONS / f"{title}-{digest}"


def _write_comparison(
    folder: Path, first: RunConfig, runs: Sequence[Run], table: Table
) -> None:
    """The table as Markdown and CSV, and the forgetting curves, means over the seeds."""
    own_folder(folder)
    groups = benchmarks(runs)
    with replacing(folder, *COMPARISON) as new:
        write_whole(new / "comparison.md", table.markdown().encode())
        write_whole(new / "comparison.csv", table.csv().encode())
        if first.events != "none":
            write_groups(new, groups, pictures=first.events == "all")
        for group in groups:
            if (figure := forgetting_curves(group)) is not None:
                place = f"-{group.slug}" if len(groups) > 1 else ""
                write_whole(new / f"forgetting_curves{place}.png", as_png(figure))


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
