"""Make the runs that a command line asks for, here or by one of Hydra's launchers."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig
from rich.console import Console

from kancl.config import ConfigError, RunConfig, config_dir, plain, typed
from kancl.runner.build import Parts
from kancl.runner.check import check
from kancl.runner.compose import Request
from kancl.runner.folder import RunFolder
from kancl.runner.lock import Held, holder
from kancl.runner.registry import GROUPS
from kancl.runner.run import run
from kancl.runner.status import note_sweep

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
        if config.overwrite or RunFolder(config).completed() is None
    ]
    parts = check(to_do)
    if len(request.configs) > 1:
        note_sweep(request.configs)
    if not request.launcher:
        return [
            _cell(
                config,
                parts if to_do and config is to_do[0] else None,
                console,
                quiet,
            )
            for config in request.configs
        ]
    for config in request.configs:
        if config not in to_do and not quiet:
            run(config, console=console)  # says that it is skipped
    if to_do:
        try:
            _launch(to_do, request.launcher)
        except ConfigError:
            raise
        except Exception as error:  # a worker was killed, say: others are done
            _warn(f"the launcher ended with {type(error).__name__}: {error}")
    return [_summary(config) for config in request.configs]


def _cell(
    config: RunConfig, parts: Parts | None, console: Console, quiet: bool
) -> dict[str, Any]:
    """One run of several; whatever goes wrong with it becomes part of its summary."""
    try:
        summary = run(config, parts=parts, console=console, quiet=quiet)
    except Held as held:
        _warn(f"{held}; left to it")
        return _without_result(config, "running", str(held))
    except ConfigError:
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        summary = _without_result(config, "failed", why)
    if summary["status"] != "completed":
        why = summary.get("error", "")
        _warn(f"{RunFolder(config).path} {summary['status']}: {why}")
    return summary


def _summary(config: RunConfig) -> dict[str, Any]:
    """What a launcher's process has written down."""
    folder = RunFolder(config)
    summary, owner = folder.summary(), holder(folder.path)
    if owner is not None:
        return _without_result(config, "running", f"it is being made by {owner}")
    if summary is None:
        why = "its process ended without a result; the same command makes it again"
        return _without_result(config, "failed", why)
    return summary


def _without_result(config: RunConfig, status: str, error: str) -> dict[str, Any]:
    return {
        "scenario": RunFolder(config).path.parts[-3],
        "model": config.model.name,
        "strategy": config.strategy.name,
        "seed": config.seed,
        "status": status,
        "error": error,
    }


def _warn(text: str) -> None:
    print(f"kancl: {text}", file=sys.stderr, flush=True)


def _launch(configs: Sequence[RunConfig], overrides: Sequence[str]) -> None:
    """Hand the runs to a launcher plugin, as Hydra's own sweepers do.

    Hydra's part of the configuration is composed without any file of ``configs/``.
    """
    log_dir = Path(configs[0].log_dir).resolve()
    ours = [
        "hydra/job_logging=disabled",
        "hydra/hydra_logging=disabled",
        "hydra.output_subdir=null",
        f"hydra.sweep.dir={str(log_dir)!r}",
        "hydra.sweep.subdir=.",
    ]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir()), version_base="1.3", job_name="kancl"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        try:
            master = hydra.config_loader.load_configuration(
                config_name=None,
                overrides=[*ours, *overrides],
                run_mode=RunMode.MULTIRUN,
            )
            launcher = Plugins.instance().instantiate_launcher(
                hydra_context=HydraContext(hydra.config_loader, Callbacks()),
                task_function=partial(_job, [plain(config) for config in configs]),
                config=master,
            )
        except HydraException as error:
            raise ConfigError(str(error).strip().split("\n")[0]) from error
        jobs = [[f"+job={number}"] for number in range(len(configs))]
        for job in launcher.launch(jobs, initial_job_idx=0):
            job.return_value  # raises what the job raised


def _job(configs: Sequence[Mapping[str, Any]], chosen: DictConfig) -> None:
    """One run, in whatever process the launcher made for it."""
    _cell(typed(configs[chosen.job], GROUPS), None, Console(quiet=True), quiet=True)
