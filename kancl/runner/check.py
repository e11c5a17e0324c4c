"""Refuse what cannot work, in every run of a sweep, before the first one starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from kancl.benchmarks import ImageBenchmark
from kancl.config import ConfigError, Evaluation, RunConfig
from kancl.runner.build import build, build_benchmark, build_optimizer, resolve_device
from kancl.runner.registry import GROUPS
from kancl.strategies import TrainingSetup


def check(configs: Sequence[RunConfig]) -> None:
    """Build every unlike combination once, on the CPU, and throw it away.

    Raises: ConfigError naming what is wrong.
    """
    for device in {config.device for config in configs}:
        resolve_device(device)
    # runs that differ in these only are built alike
    alike = dict(seed=0, device="cpu", evaluation=Evaluation(), overwrite=False)
    configs = [replace(config, **alike) for config in configs]  # type: ignore[arg-type]
    unlike = {repr(config): config for config in configs}
    benchmarks: dict[str, ImageBenchmark] = {}
    for _, config in sorted(unlike.items()):  # those of one scenario together
        scenario = repr((config.scenario, config.data_dir))
        if scenario not in benchmarks:
            benchmarks = {scenario: _benchmark(config)}
        _check_one(config, benchmarks[scenario])


def _benchmark(config: RunConfig) -> ImageBenchmark:
    try:
        return build_benchmark(config, resolve_device("cpu"))
    except ValueError as error:
        raise ConfigError(" ".join(str(error).split())) from error


def _check_one(config: RunConfig, benchmark: ImageBenchmark) -> None:
    training = config.training
    if training.lr_gamma is not None and training.iterations is not None:
        raise ConfigError(
            "training.lr_gamma counts epochs, so it needs training.epochs, not "
            "training.iterations"
        )
    if training.lr_gamma is not None and training.lr_gamma <= 0:
        raise ConfigError(f"training.lr_gamma={training.lr_gamma} must be above 0")
    model: nn.Module = build(config, benchmark).model
    try:
        setup = TrainingSetup(
            model=model,
            optimizer=build_optimizer(config, model.parameters()),
            batch_size=training.batch_size,
            epochs=training.epochs,
            iterations=training.iterations,
        )
        builder = GROUPS["strategy"].builder(config.strategy.name)
        builder(setup, **config.strategy.options)
    except ValueError as error:
        message = " ".join(str(error).split())
        raise ConfigError(f"strategy={config.strategy.name}: {message}") from error
