"""Refuse what cannot work, in every run of a sweep, before the first one starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kancl.benchmarks import Benchmark
from kancl.config import ConfigError, Evaluation, RunConfig, Seeds
from kancl.runner.build import (
    Parts,
    build,
    build_benchmark,
    resolve_device,
)
from kancl.runner.diagnosis import check_diagnosis
from kancl.runner.memory import refuse_if_out_of_memory
from kancl.runner.seeding import stream_seeds
from kancl.runner.train import build_strategy


def check(configs: Sequence[RunConfig]) -> Parts | None:
    """Build every unlike combination once.

    Returns: what the run of the first configuration is made of; all else is thrown away.
    Raises: ConfigError naming what is wrong.
    """
    for device in {config.device for config in configs}:
        resolve_device(device)
    # runs that differ in these only are built alike
    alike = dict(seed=0, seeds=Seeds(), device="cpu", overwrite=False)
    alike |= dict(evaluation=Evaluation())
    unlike: dict[str, RunConfig] = {}
    for config in configs:
        same: RunConfig = replace(config, **alike)  # type: ignore[arg-type]
        unlike.setdefault(repr(same), config)
    first: Parts | None = None
    benchmarks: dict[str, Benchmark] = {}
    for _, config in sorted(unlike.items()):  # those of one scenario together
        if config is not configs[0]:
            config = replace(config, device="cpu")
        order = stream_seeds(config).order
        scenario = repr((config.scenario, config.data_dir, order, config.device))
        if scenario not in benchmarks:
            benchmarks = {scenario: _benchmark(config)}
        _check_one(config, benchmarks[scenario])
        if config is configs[0]:
            first = build(config, benchmarks[scenario])
    return first


def _benchmark(config: RunConfig) -> Benchmark:
    try:
        return build_benchmark(config, resolve_device(config.device))
    except ValueError as error:
        raise ConfigError(" ".join(str(error).split())) from error
    except (RuntimeError, MemoryError) as error:
        refuse_if_out_of_memory(error, config)
        raise


def _check_one(config: RunConfig, benchmark: Benchmark) -> None:
    training = config.training
    if not config.log_dir.strip():
        raise ConfigError("log_dir= is empty: name a folder, such as log_dir=logs")
    if training.lr_gamma is not None and training.iterations is not None:
        raise ConfigError(
            "training.lr_gamma counts epochs, so it needs training.epochs, not "
            "training.iterations"
        )
    if training.lr_gamma is not None and config.schedule != "constant":
        raise ConfigError(
            f"training.lr_gamma and optimizer.schedule={config.schedule} both move the "
            "learning rate: set one of them only"
        )
    gamma = training.experience_gamma
    if gamma is not None and training.lr_gamma is not None:
        raise ConfigError(
            "training.lr_gamma starts anew with each experience, "
            "training.experience_gamma does not: set one of them only"
        )
    if gamma is not None and not 0 < gamma <= 1:
        raise ConfigError(
            f"training.experience_gamma={gamma} must lie above 0 and at most at 1"
        )
    if training.lr_gamma is not None and training.lr_gamma <= 0:
        raise ConfigError(f"training.lr_gamma={training.lr_gamma} must be above 0")
    check_diagnosis(config, benchmark)
    parts = build(config, benchmark)
    try:
        build_strategy(config, parts)
    except ValueError as error:
        raise ConfigError(" ".join(str(error).split())) from error
    except (RuntimeError, MemoryError) as error:
        refuse_if_out_of_memory(error, config)
        raise
