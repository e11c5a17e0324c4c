"""The strategy of a run, with everything that trains beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from avalanche.training.plugins import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate

from kancl.benchmarks import Benchmark
from kancl.config import RunConfig
from kancl.models.inspect import spline_network
from kancl.plugins.loop import (
    EpochDecayPlugin,
    ExperienceDecayPlugin,
    LinearDecayPlugin,
)
from kancl.plugins.plugin import Record
from kancl.plugins.steps.frozen import LazyStepsPlugin
from kancl.runner.build import Parts, build_optimizer
from kancl.runner.machine import resolve_device
from kancl.runner.seeding import SeedingPlugin, stream_seed, stream_seeds
from kancl.strategies import TrainingSetup, build, trains_jointly


def iterations_planned(config: RunConfig, benchmark: Benchmark) -> list[int]:
    """Iterations of each training, on the data of one experience (or of all)."""
    training = config.training
    sizes = [len(experience.dataset) for experience in benchmark.train_stream]
    if trains_jointly(config.strategy.builder):
        sizes = [sum(sizes)]
    if training.iterations is not None:
        return [training.iterations for _ in sizes]
    return [training.epochs * math.ceil(size / training.batch_size) for size in sizes]


def build_strategy(
    config: RunConfig,
    parts: Parts,
    observers: Sequence[SupervisedPlugin] = (),
    record: Record = lambda name, value: None,
) -> SupervisedTemplate:
    """Make the strategy of a run.

    Args:
        record: takes what the strategy's plugins measure.
    Raises: ValueError for what can't work, saying what to use instead.
    """
    training, device = config.training, resolve_device(config.device)
    seeds = stream_seeds(config)
    plugins: list[SupervisedPlugin] = [SeedingPlugin(seeds=seeds), *observers]
    if training.lr_gamma is not None:
        plugins.append(EpochDecayPlugin(gamma=training.lr_gamma))
    if config.schedule == "linear":
        plugins.append(LinearDecayPlugin())
    if training.experience_gamma is not None:  # behind what restores the full rate
        plugins.append(ExperienceDecayPlugin(gamma=training.experience_gamma))
    if getattr(spline_network(parts.model), "lazy", False):
        plugins.append(LazyStepsPlugin())
    usual = 256 if device.type == "cpu" else 1000
    setup = TrainingSetup(
        model=parts.model,
        optimizer=build_optimizer(config, parts.model.parameters()),
        criterion=parts.benchmark.info.score.loss(),
        batch_size=training.batch_size,
        epochs=training.epochs,
        iterations=training.iterations,
        eval_batch_size=training.eval_batch_size or usual,
        device=device,
        plugins=plugins,
        reset_optimizer=config.reset_optimizer,
        seed=stream_seed(seeds.buffers, "strategy"),
        learns_values=parts.benchmark.info.function is not None,
        record=record,
    )
    return build(config.strategy.builder, setup, **config.strategy.options)
