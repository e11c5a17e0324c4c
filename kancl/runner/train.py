"""Train a network on one experience after the other, by the strategy configured."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

from avalanche.training.plugins import SupervisedPlugin
from avalanche.training.supervised import Cumulative
from avalanche.training.templates import SupervisedTemplate
from rich.console import Console

from kancl.benchmarks import Benchmark
from kancl.config import RunConfig
from kancl.models.inspect import spline_network
from kancl.observe.curves import EpochEvaluationPlugin
from kancl.observe.recorder import RecorderPlugin
from kancl.plugins.loop import (
    EpochDecayPlugin,
    ExperienceDecayPlugin,
    LinearDecayPlugin,
)
from kancl.plugins.plugin import Record
from kancl.plugins.steps.frozen import LazyStepsPlugin
from kancl.reporting import ProgressPlugin, TensorBoardPlugin
from kancl.runner.build import Parts, build_optimizer, resolve_device
from kancl.runner.checkpoint import CheckpointPlugin
from kancl.runner.seeding import SeedingPlugin, stream_seed, stream_seeds
from kancl.strategies import (
    TrainingSetup,
    build,
    strategy_state_bytes,
    trains_jointly,
)

STATE_BYTES = "strategy_state_bytes"
"""Name of the measurements of what a strategy keeps, after each experience."""


def train(
    config: RunConfig,
    parts: Parts,
    recorder: RecorderPlugin,
    plugins: Sequence[SupervisedPlugin],
    console: Console | None,
    checkpoints: CheckpointPlugin,
) -> Iterator[None]:
    """Evaluate; train and evaluate on one experience after the other, pausing there.

    What is behind the point that ``checkpoints`` goes on from is not done again.

    A growing head has no outputs before training, so nothing to evaluate.

    Args:
        plugins: what observes the training, beside the recorder.
        console: for the progress display; None shows none.
        checkpoints: writes the checkpoints.
    """
    benchmark = parts.benchmark
    streams = [benchmark.test_stream]
    if "validation" in benchmark.streams:
        streams.append(benchmark.streams["validation"])
    observers = [recorder, *plugins]
    if config.evaluation.each_epoch:
        curves = EpochEvaluationPlugin([benchmark.train_stream, streams[-1]])
        observers.append(curves)
    strategy = build_strategy(config, parts, observers, recorder.add)
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
    n_done = checkpoints.attach(strategy, benchmark, recorder, displays)
    observers.append(checkpoints)
    with progress:
        if parts.head != "growing" and checkpoints.resumed_at is None:
            for stream in streams:
                strategy.eval(stream)
        stream = benchmark.train_stream
        trainings = [stream] if recorder.trains_jointly else list(stream)
        for number, part in enumerate(trainings[n_done:], start=n_done):
            checkpoints.at_boundary(number)
            checkpoints.mute([p for p in observers if p is not checkpoints])
            strategy.train(part)
            recorder.add(STATE_BYTES, strategy_state_bytes(strategy))
            for evaluated in streams:
                strategy.eval(evaluated)
            yield


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
    eval_batch_size = training.eval_batch_size
    if eval_batch_size is None:
        eval_batch_size = 256 if device.type == "cpu" else 1000
    setup = TrainingSetup(
        model=parts.model,
        optimizer=build_optimizer(config, parts.model.parameters()),
        criterion=parts.benchmark.info.score.loss(),
        batch_size=training.batch_size,
        epochs=training.epochs,
        iterations=training.iterations,
        eval_batch_size=eval_batch_size,
        device=device,
        plugins=plugins,
        reset_optimizer=config.reset_optimizer,
        seed=stream_seed(seeds.buffers, "strategy"),
        learns_values=parts.benchmark.info.function is not None,
        record=record,
    )
    return build(config.strategy.builder, setup, **config.strategy.options)
