"""Make the runs that a command line asks for, here or by one of Hydra's launchers."""

from __future__ import annotations

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
from kancl.runner.check import check
from kancl.runner.compose import Request
from kancl.runner.folder import RunFolder
from kancl.runner.registry import GROUPS
from kancl.runner.run import run

Summaries = list[dict[str, Any]]


def make_runs(request: Request, *, console: Console, quiet: bool) -> Summaries:
    """Run what is not completed yet; summaries of all, in the order asked for.

    Raises: ConfigError, before the first run, if one of them cannot work.
    """
    to_do = [
        config
        for config in request.configs
        if config.overwrite or RunFolder(config).completed() is None
    ]
    parts = check(to_do)
    if not request.launcher:
        return [
            run(
                config,
                parts=parts if to_do and config is to_do[0] else None,
                console=console,
                quiet=quiet,
            )
            for config in request.configs
        ]
    for config in request.configs:
        if config not in to_do and not quiet:
            run(config, console=console)  # says that it is skipped
    if to_do:
        _launch(to_do, request.launcher)
    summaries = []
    for config in request.configs:
        folder = RunFolder(config)
        summary = folder.summary()
        if summary is None:
            raise RuntimeError(f"{folder.path}: the launcher ended without a summary")
        summaries.append(summary)
    return summaries


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
    run(typed(configs[chosen.job], GROUPS), quiet=True)
