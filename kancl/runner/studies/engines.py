"""Hand runs to one of Hydra's launchers: Joblib, Ray, submitit on Slurm or here."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from kancl.config import ConfigError, RunConfig, config_dir, plain, typed
from kancl.interruption import Interrupted
from kancl.runner.identity import run_folder
from kancl.runner.request.registry import GROUPS
from kancl.runs import lock_holder
from kancl.runs.names import ENVIRONMENT, LOCK, SUMMARY

Builders = Mapping[tuple[str, str], Callable[..., Any]]
Marks = tuple[int | None, ...]

EXTRAS = {
    "joblib": ("sweep", "hydra_joblib_launcher"),
    "ray": ("ray", "hydra_ray_launcher"),
    "submitit_local": ("slurm", "hydra_submitit_launcher"),
    "submitit_slurm": ("slurm", "hydra_submitit_launcher"),
}
"""Launcher with a preset in ``configs/``: the extra that brings it, and its module."""


def is_installed(name: str) -> bool:
    """Whether a launcher can be used; Hydra's own always can."""
    if name not in EXTRAS:
        return True
    return find_spec("hydra_plugins") is not None and (
        find_spec(f"hydra_plugins.{EXTRAS[name][1]}") is not None
    )


def launch(
    configs: Sequence[RunConfig],
    overrides: Sequence[str],
    make: Callable[[RunConfig], object],
) -> None:
    """Have the runs made, whatever one of them does to its process.

    A process that dies breaks the pool of Joblib; Ray and submitit, once their retries
    are used up, report the first loss and forget the rest. What has no result then is
    launched again, apart from what was not begun, and in halves, so that in the end a
    run that breaks its process does so alone. Others go on from their checkpoints.

    Args:
        make: makes one run and notes what goes wrong; importable where runs are made.

    Raises: ConfigError if there is no such launcher, or it cannot be used.
    """
    before = [_marks(config) for config in configs]
    try:
        _launch(configs, overrides, make)
        return
    except ConfigError:
        raise
    except Exception as error:
        why = str(error).strip().split("\n")[0]
        _warn(f"the launcher ended with {type(error).__name__}: {why}")
    _end_others(configs)
    after = [_marks(config) for config in configs]
    if len(configs) == 1 or after == before:  # the culprit; or none was begun at all
        return
    lost = [
        (config, then != now)
        for config, then, now in zip(configs, before, after)
        if now[0] is None or now[0] == then[0]
    ]
    begun = [config for config, is_begun in lost if is_begun]
    others = [config for config, is_begun in lost if not is_begun]
    if not others:
        half = (len(begun) + 1) // 2
        begun, others = begun[:half], begun[half:]
    for part in (begun, others):
        if part:
            _warn(f"{len(part)} runs without a result are launched again")
            launch(part, overrides, make)


def _launch(
    configs: Sequence[RunConfig],
    overrides: Sequence[str],
    make: Callable[[RunConfig], object],
) -> None:
    """As Hydra's own sweepers do; raises what the launcher raises."""
    log_dir = Path(configs[0].log_dir).resolve()
    threads = max(config.threads or 1 for config in configs)
    ours = [
        "hydra/job_logging=disabled",
        "hydra/hydra_logging=disabled",
        "hydra.output_subdir=null",
        f"hydra.sweep.dir={str(log_dir)!r}",
        "hydra.sweep.subdir=.",
    ]
    shared = [
        f"+threads={threads}",
        f"+processes={max(1, n_cores() // threads)}",
        *_preset(overrides),
    ]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir()), version_base="1.3", job_name="kancl"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        job = partial(
            _job, [plain(config) for config in configs], _added(), os.getcwd(), make
        )
        try:
            master = hydra.config_loader.load_configuration(
                config_name=None,
                overrides=[*ours, *shared, *overrides],
                run_mode=RunMode.MULTIRUN,
            )
            launcher = Plugins.instance().instantiate_launcher(
                hydra_context=HydraContext(hydra.config_loader, Callbacks()),
                task_function=job,
                config=master,
            )
        except HydraException as error:
            raise ConfigError(str(error).strip().split("\n")[0]) from error
        # Launchers compose each job anew, of its own overrides and those of Hydra.
        jobs = [[*shared, f"+job={number}"] for number in range(len(configs))]
        for done in launcher.launch(jobs, initial_job_idx=0):
            done.return_value  # raises what the job raised


def _job(
    configs: Sequence[Mapping[str, Any]],
    added: Builders,
    folder: str,
    make: Callable[[RunConfig], object],
    chosen: DictConfig,
) -> None:
    """One run, in whatever process the launcher made for it."""
    for (group, name), builder in added.items():
        builders = GROUPS[group].builders
        assert isinstance(builders, dict)
        builders[name] = builder
    os.chdir(folder)  # relative paths mean the same everywhere
    config = typed(configs[chosen.job], GROUPS)
    _outlast(run_folder(config) / LOCK)
    try:
        make(config)
    except Interrupted as stopped:
        _warn(f"{run_folder(config)} {stopped}{', checkpoint written' * stopped.wrote}")


def _added() -> Builders:
    """Builders that a user's script has registered: other processes lack them."""
    return {
        (group, name): builder
        for group, known in GROUPS.items()
        for name, builder in known.builders.items()
        if builder.__module__.partition(".")[0] != "kancl"
    }


def _outlast(lock: Path) -> None:
    """Wait until a dead owner's lock has ended, or a live one has touched it.

    When a node dies, its runs are given to others at once.
    """
    first = _changed(lock)
    while lock_holder(lock.parent) is not None and _changed(lock) == first:
        time.sleep(0.5)


def _end_others(configs: Sequence[RunConfig]) -> None:
    """Wait for what a broken launcher has left running; Ray's are stopped."""
    ray = sys.modules.get("ray")
    if ray is not None:
        ray.shutdown()
    while any(lock_holder(run_folder(config)) is not None for config in configs):
        time.sleep(0.5)


def _marks(config: RunConfig) -> Marks:
    """Tell whether a run has a new result, and whether it was begun."""
    folder = run_folder(config)
    return tuple(_changed(folder / f) for f in (SUMMARY, ENVIRONMENT, LOCK))


def _changed(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def n_cores() -> int:
    """Those that this process may use; Joblib knows a container's share."""
    if find_spec("joblib") is not None:
        from joblib import cpu_count

        return int(cpu_count())
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _preset(overrides: Sequence[str]) -> list[str]:
    """The launcher's file in ``configs/launcher``, if it has one.

    Raises: ConfigError with the line that installs what is missing.
    """
    chosen = [o.partition("=")[2] for o in overrides if o.startswith("hydra/launcher=")]
    for name in chosen[-1:]:
        if not is_installed(name):
            extra = EXTRAS[name][0]
            raise ConfigError(
                f"hydra/launcher={name} needs: pip install 'kancl[{extra}]'"
            )
        if name in EXTRAS:
            return [f"+launcher={name}"]
    return []


def _warn(text: str) -> None:
    print(f"kancl: {text}", file=sys.stderr, flush=True)
