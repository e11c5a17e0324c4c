"""Train a network on one experience after the other, by the strategy configured."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

from avalanche.training.plugins import LRSchedulerPlugin, SupervisedPlugin
from avalanche.training.supervised import Cumulative
from avalanche.training.templates import SupervisedTemplate
from rich.console import Console
from torch.optim.lr_scheduler import ExponentialLR

from kancl.benchmarks import Benchmark
from kancl.config import RunConfig
from kancl.plugins.measuring.epoch_evaluation import EpochEvaluationPlugin
from kancl.plugins.measuring.recorder import RecorderPlugin
from kancl.plugins.schedules.learning_rate import (
    ExperienceDecayPlugin,
    LinearDecayPlugin,
)
from kancl.reporting import ProgressPlugin, TensorBoardPlugin
from kancl.runner.build import Parts, build_optimizer, resolve_device
from kancl.runner.checkpoint import CheckpointPlugin
from kancl.runner.locality import is_lazy, locality_plugins
from kancl.runner.request.registry import GROUPS
from kancl.runner.seeding import SeedingPlugin, stream_seed, stream_seeds
from kancl.strategies import TrainingSetup, trains_jointly
from kancl.strategies.held_memory import held_bytes

HELD = "strategy_bytes"
"""Name of the measurements of what a strategy holds, after each experience."""


def train(
    config: RunConfig,
    parts: Parts,
    recorder: RecorderPlugin,
    plugins: Sequence[SupervisedPlugin],
    console: Console | None,
    keeper: CheckpointPlugin,
) -> Iterator[None]:
    """Evaluate; train and evaluate on one experience after the other, pausing there.

    What is behind the point that ``keeper`` goes on from is not done again.

    A growing head has no outputs before training, so nothing to evaluate.

    Args:
        plugins: what observes the training, beside the recorder.
        console: for the progress display; None shows none.
        keeper: writes the checkpoints.
    """
    benchmark = parts.benchmark
    streams = [benchmark.test_stream]
    if "validation" in benchmark.streams:
        streams.append(benchmark.streams["validation"])
    observers = [recorder, *plugins]
    if config.evaluation.each_epoch:
        curves = EpochEvaluationPlugin([benchmark.train_stream, streams[-1]])
        observers.append(curves)
    strategy = _strategy(config, parts, recorder, observers)
    iterations = iterations_planned(config, benchmark)
    if isinstance(strategy, Cumulative) and config.training.iterations is None:
        iterations = list(itertools.accumulate(iterations))
    progress: ProgressPlugin | nullcontext[None] = nullcontext()
    if console is not None:
        title = f"{config.model.name}-{config.strategy.name} seed {config.seed}"
        progress = ProgressPlugin(
            recorder, title=title, total_iterations=sum(iterations), console=console
        )
        strategy.plugins.append(progress)
        observers.append(progress)
    displays = [
        p for p in observers if isinstance(p, (ProgressPlugin, TensorBoardPlugin))
    ]
    n_done = keeper.attach(strategy, benchmark, recorder, displays)
    observers.append(keeper)
    with progress:
        if parts.head != "growing" and keeper.goes_on_at is None:
            for stream in streams:
                strategy.eval(stream)
        stream = benchmark.train_stream
        trainings = [stream] if recorder.trains_jointly else list(stream)
        for number, part in enumerate(trainings[n_done:], start=n_done):
            keeper.at_border(number)
            keeper.mute([p for p in observers if p is not keeper])
            strategy.train(part)
            recorder.add(HELD, held_bytes(strategy, observers))
            for evaluated in streams:
                strategy.eval(evaluated)
            yield


def iterations_planned(config: RunConfig, benchmark: Benchmark) -> list[int]:
    """Iterations of each training, on the data of one experience (or of all)."""
    training = config.training
    sizes = [len(experience.dataset) for experience in benchmark.train_stream]
    if trains_jointly(config.strategy.name):
        sizes = [sum(sizes)]
    if training.iterations is not None:
        return [training.iterations for _ in sizes]
    return [training.epochs * math.ceil(size / training.batch_size) for size in sizes]


def _strategy(
    config: RunConfig,
    parts: Parts,
    recorder: RecorderPlugin,
    observers: Sequence[SupervisedPlugin],
) -> SupervisedTemplate:
    training, device = config.training, resolve_device(config.device)
    seeds = stream_seeds(config)
    optimizer = build_optimizer(config, parts.model.parameters())
    plugins: list[SupervisedPlugin] = [SeedingPlugin(seeds), *observers]
    if training.lr_gamma is not None:
        scheduler = ExponentialLR(optimizer, training.lr_gamma)
        plugins.append(LRSchedulerPlugin(scheduler, reset_scheduler=True))
    if config.schedule == "linear":
        plugins.append(LinearDecayPlugin())
    if training.experience_gamma is not None:  # behind what restores the full rate
        plugins.append(ExperienceDecayPlugin(training.experience_gamma))
    plugins += locality_plugins(config, parts.model, recorder)
    setup = TrainingSetup(
        model=parts.model,
        optimizer=optimizer,
        criterion=parts.benchmark.info.score.loss(),
        batch_size=training.batch_size,
        epochs=training.epochs,
        iterations=training.iterations,
        eval_batch_size=training.eval_batch_size
        or (256 if device.type == "cpu" else 1000),
        device=device,
        plugins=plugins,
        reset_optimizer=config.reset_optimizer or is_lazy(config),
        seed=stream_seed(seeds.buffers, "strategy"),
    )
    builder = GROUPS["strategy"].builder(config.strategy.name)
    strategy: SupervisedTemplate = builder(setup, **config.strategy.options)
    return strategy
