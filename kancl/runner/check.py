"""Refuse what cannot work, in every run of a sweep, before the first one starts."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kancl.benchmarks import Benchmark
from kancl.config import ConfigError, RunConfig, Seeds
from kancl.reporting.loggers import check_loggers
from kancl.runner.build import Parts, build, build_benchmark, build_strategy
from kancl.runner.diagnosis import check_diagnosis
from kancl.runner.identity import check_name
from kancl.runner.machine import refusing, resolve_device, taking_turns
from kancl.runner.seeding import stream_seeds


@taking_turns()
def check(configs: Sequence[RunConfig]) -> Parts | None:
    """Build every unlike combination once.

    Returns: what the run of the first configuration is made of; all else is thrown away.
    Raises: ConfigError naming what is wrong.
    """
    for name in {config.device for config in configs}:
        resolve_device(name)
    unlike: dict[str, RunConfig] = {}
    for config in configs:  # runs that differ in these only are built alike
        same = replace(config, seed=0, seeds=Seeds(), device="cpu", overwrite=False)
        unlike.setdefault(repr(same), config)
    first: Parts | None = None
    benchmarks: dict[str, Benchmark] = {}
    for _, config in sorted(unlike.items()):  # those of one scenario together
        if config is not configs[0]:
            config = replace(config, device="cpu")
        order = stream_seeds(config).order
        size = config.training.batch_size
        facts = config.scenario, config.data_dir, order, config.device, size
        scenario = repr(facts)
        if scenario not in benchmarks:
            with refusing(config):
                device = resolve_device(config.device)
                benchmarks = {scenario: build_benchmark(config, device)}
        _check_one(config, benchmarks[scenario])
        if config is configs[0]:
            first = build(config, benchmarks[scenario])
    return first


def _check_one(config: RunConfig, benchmark: Benchmark) -> None:
    if not config.log_dir.strip():
        raise ConfigError("log_dir= is empty: name a folder, such as log_dir=logs")
    path = Path(config.log_dir).absolute()
    there = next(place for place in (path, *path.parents) if os.path.exists(place))
    if not there.is_dir():
        raise ConfigError(f"log_dir={config.log_dir}: {there} is a file, not a folder")
    check_name(config)
    decay, gamma = config.training.lr_gamma, config.training.experience_gamma
    clashes = {
        "training.iterations": config.training.iterations is not None,
        f"optimizer.schedule={config.schedule}": config.schedule != "constant",
        "training.experience_gamma": gamma is not None,
    }
    for key, is_set in clashes.items():
        if decay is not None and is_set:
            raise ConfigError(
                "training.lr_gamma lowers the learning rate after each epoch, anew in "
                f"each experience: it doesn't go with {key}; set one of them only"
            )
    check_loggers(config.loggers)
    parts = build(config, benchmark)
    check_diagnosis(config, parts)
    with refusing(config):
        build_strategy(config, parts)
