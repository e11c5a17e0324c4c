"""Hand runs to one of Hydra's launchers: Joblib, Ray, submitit on Slurm or here."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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

from kancl.config import ConfigError, RunConfig, config_dir, plain, typed
from kancl.interruption import Interrupted
from kancl.reading import in_one_line
from kancl.runner import machine
from kancl.runner.identity import own_code, run_folder, tell_code
from kancl.runner.installed import EXTRAS, is_installed
from kancl.runner.registry import GROUPS
from kancl.runs import lock_holder
from kancl.runs.names import ENVIRONMENT, LOCK, REPLACEMENT, SUMMARY
from kancl.threads import thread_lock

_HYDRA = thread_lock()  # Hydra has one configuration per process
Make = Callable[[RunConfig], object]  # makes one run; importable where runs are made
LOOK_SECONDS = 0.5
"""Between two looks at the folders of runs that other processes make."""


def warn(text: str) -> None:
    print(in_one_line(f"kancl: {text}"), file=sys.stderr, flush=True)


def launch(configs: Sequence[RunConfig], overrides: Sequence[str], make: Make) -> None:
    """Have the runs made, whatever one of them does to its process.

    A process that dies breaks the pool of Joblib; Ray and submitit, once their retries
    are used up, report the first loss and forget the rest. What has no result then is
    launched again, what was begun separately from what was not, and in halves, so that a
    run that keeps crashing its process is isolated in the end.

    Raises: ConfigError if there is no such launcher, or it cannot be used.
    """
    before = [_marks(config) for config in configs]
    try:
        with _HYDRA:
            return _launch(configs, overrides, make)
    except ConfigError:
        raise
    except Exception as error:
        why = str(error).strip().split("\n")[0]
        warn(f"the launcher ended with {type(error).__name__}: {why}")
    if ray := sys.modules.get("ray"):
        ray.shutdown()
    while any(lock_holder(run_folder(config)) is not None for config in configs):
        time.sleep(0.5)  # for what the broken launcher has left running
    after = [_marks(config) for config in configs]
    if len(configs) == 1 or after == before:  # the culprit; or none was begun at all
        return
    lost = [  # those without a new result, and whether they were begun
        (config, then != now)
        for config, then, now in zip(configs, before, after)
        if now[0] in (None, then[0])
    ]
    begun = [config for config, is_begun in lost if is_begun]
    others = [config for config, is_begun in lost if not is_begun]
    if not others:
        half = (len(begun) + 1) // 2
        begun, others = begun[:half], begun[half:]
    for part in filter(None, (begun, others)):
        warn(f"{len(part)} runs without a result are launched again")
        launch(part, overrides, make)


@contextmanager
def watching(
    configs: Sequence[RunConfig], ended: Callable[[RunConfig], None]
) -> Iterator[None]:
    """Call ``ended``, once, with each run that ends meanwhile, whoever makes it and where.

    A run has ended when its folder has a new summary and nobody holds its lock.
    """
    before = [(config, _results(config)) for config in configs]
    over = threading.Event()

    def look() -> None:
        for pair in [*before]:
            config, old = pair
            is_new = {*_results(config)} - {*old, None}
            if is_new and lock_holder(run_folder(config)) is None:
                before.remove(pair)
                ended(config)

    def watch() -> None:
        while not over.wait(LOOK_SECONDS):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        look()


def _results(config: RunConfig) -> tuple[int | None, ...]:
    """When a run's results were written; one that is repeated has another, for a time."""
    folder = run_folder(config)
    return _changed(folder / SUMMARY), _changed(folder / REPLACEMENT / SUMMARY)


def _launch(configs: Sequence[RunConfig], overrides: Sequence[str], make: Make) -> None:
    """Do as Hydra's own sweepers do; raises what the launcher raises."""
    threads = max(config.threads or 1 for config in configs)
    devices, preset = {config.device for config in configs}, _preset(overrides)
    named = {device for device in devices if ":" in device}
    if preset == ["+launcher=ray"] and (later := named - {"cuda:0"}):
        raise ConfigError(
            f"device={min(later)}: Ray gives each run a GPU, the only one that the run "
            "sees; set device=cuda"
        )
    places = machine.places(devices, threads)
    # Ray gives a run its GPU itself; with Joblib its processes choose, unless told which.
    cards = 0 if named or preset != ["+launcher=joblib"] else places.n_cards
    if places.n_cards and preset:
        warn(str(places))
    shared = [f"+threads={threads}", f"+processes={places.processes}"]
    shared += [f"+gpus={places.share}", f"+cards={cards}", *preset]
    ours = [
        *("hydra/job_logging=none", "hydra/hydra_logging=none"),
        *("hydra.output_subdir=null", "hydra.sweep.subdir=."),
        f"hydra.sweep.dir={str(Path(configs[0].log_dir).resolve())!r}",
    ]
    job = partial(_job, [*map(plain, configs)], _added_builders(), os.getcwd(), make)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir()), version_base="1.3", job_name="kancl"):
        loader = GlobalHydra.instance().config_loader()
        words = [*ours, *shared, *overrides]
        try:
            master = loader.load_configuration(None, words, RunMode.MULTIRUN)
            context = HydraContext(loader, Callbacks())
            launcher = Plugins.instance().instantiate_launcher(context, job, master)
        except HydraException as error:
            raise ConfigError(str(error).strip().split("\n")[0]) from error
        # Launchers compose each job anew, of its own overrides and those of Hydra.
        jobs = [[*shared, f"+job={number}"] for number in range(len(configs))]
        for done in launcher.launch(jobs, initial_job_idx=0):
            done.return_value  # raises what the job raised


def _job(
    configs: Sequence[Mapping[str, Any]],
    added: Mapping[tuple[str, str], Any],
    folder: str,
    make: Make,
    chosen: DictConfig,
) -> None:
    """One run, in whatever process the launcher made for it."""
    for (group, name), (builder, digests) in added.items():
        builders = GROUPS[group].builders
        assert isinstance(builders, dict)
        builders[name] = builder
        for part, digest in zip(_parts(builder), digests):
            tell_code(part, digest)
    os.chdir(folder)  # relative paths mean the same everywhere
    config = typed(configs[chosen.job], GROUPS)
    if chosen.cards:
        machine.take_card(chosen.job, chosen.cards)
    path = run_folder(config)
    # A node that dies leaves its locks, and its runs are given to others at once: wait
    # until a dead owner's lock has ended, or a live one has touched it.
    first = _changed(path / LOCK)
    while lock_holder(path) is not None and _changed(path / LOCK) == first:
        time.sleep(0.5)
    try:
        make(config)
    except Interrupted as stopped:
        warn(f"{path} {stopped}{', checkpoint written' * stopped.wrote}")


def _added_builders() -> dict[tuple[str, str], Any]:
    """What a user's script has registered, by group and name, and the digests of its
    parts' code: other processes lack both.
    """
    each = {
        (group, name): (builder, [*map(own_code, _parts(builder))])
        for group, known in GROUPS.items()
        for name, builder in known.builders.items()
    }
    return {key: added for key, added in each.items() if any(added[1])}


def _parts(builder: Any) -> list[Any]:
    return builder if isinstance(builder, list) else [builder]


def _marks(config: RunConfig) -> tuple[int | None, ...]:
    """Tell by what has changed whether a run has a new result, and whether it was begun."""
    folder = run_folder(config)
    return tuple(_changed(folder / f) for f in (SUMMARY, ENVIRONMENT, LOCK))


def _changed(path: Path) -> int | None:
    with suppress(OSError):
        return path.stat().st_mtime_ns
    return None


def _preset(overrides: Sequence[str]) -> list[str]:
    """The launcher's file in ``configs/launcher``, if it has one."""
    chosen = [o.partition("=")[2] for o in overrides if o.startswith("hydra/launcher=")]
    name = chosen[-1] if chosen else ""
    if not is_installed(name):
        needed = f"pip install 'kancl[{EXTRAS[name][0]}]'"
        raise ConfigError(f"hydra/launcher={name} needs: {needed}")
    return [f"+launcher={name}"] if name in EXTRAS else []
