"""Make the runs that a command line asks for, here or by one of Hydra's launchers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from kancl.config import ConfigError, RunConfig
from kancl.runner.build import Parts
from kancl.runner.identity import run_folder
from kancl.runner.request.check import check
from kancl.runner.request.compose import Request
from kancl.runner.run import run
from kancl.runner.studies.engines import launch, warn
from kancl.runs import RunLocked, lock_holder
from kancl.runs.files import try_json
from kancl.runs.names import SUMMARY
from kancl.runs.reader import read_completed
from kancl.runs.status import note_sweep

Summaries = list[dict[str, Any]]


def make_runs(request: Request, *, console: Console, quiet: bool) -> Summaries:
    """Run what is not completed yet; summaries of all, in the order asked for.

    No run takes others down: one that fails, or that another process is making, has a
    summary that says so (``status`` is ``failed`` or ``running``), and the next follows.

    Raises: ConfigError, before the first run, if one of them cannot work.
    """
    to_do = [
        config
        for config in request.configs
        if config.overwrite or read_completed(run_folder(config)) is None
    ]
    parts = check(to_do)
    if len(request.configs) > 1:
        log_dir = Path(request.configs[0].log_dir)
        note_sweep(log_dir, [run_folder(c) for c in request.configs])
    if not request.launcher:
        first = to_do[0] if to_do else None
        return [
            _make(config, console, quiet, parts if config is first else None)
            for config in request.configs
        ]
    for config in request.configs:
        if config not in to_do and not quiet:
            run(config, console=console)  # says that it is skipped
    if to_do:
        launch(to_do, request.launcher, _make)
    return [_summary(config) for config in request.configs]


def _make(
    config: RunConfig,
    console: Console | None = None,
    quiet: bool = True,
    parts: Parts | None = None,
) -> dict[str, Any]:
    """One run of several; whatever goes wrong with it becomes part of its summary."""
    console = console or Console(quiet=True)
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


def _summary(config: RunConfig) -> dict[str, Any]:
    """What a launcher's process has written down."""
    folder = run_folder(config)
    summary, owner = try_json(folder / SUMMARY), lock_holder(folder)
    if owner is not None:
        return _without_result(config, "running", f"it is being made by {owner}")
    if summary is None:
        why = "its process ended without a result; the same command makes it again"
        return _without_result(config, "failed", why)
    return summary


def _without_result(config: RunConfig, status: str, error: str) -> dict[str, Any]:
    return {
        "scenario": run_folder(config).parts[-3],
        "model": config.model.name,
        "strategy": config.strategy.name,
        "seed": config.seed,
        "status": status,
        "error": error,
    }
