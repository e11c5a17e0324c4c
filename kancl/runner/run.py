"""Make one run, from its configuration to its folder."""

from __future__ import annotations

import itertools
import math
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch
from avalanche.training.plugins import LRSchedulerPlugin
from avalanche.training.supervised import Cumulative
from avalanche.training.templates import SupervisedTemplate
from rich.console import Console
from torch import Tensor
from torch.optim.lr_scheduler import ExponentialLR

from kancl.config import RunConfig, plain
from kancl.config.schema import NOT_HASHED
from kancl.metrics.accuracy_matrix import empty_matrix, summarise
from kancl.plugins.forgetting_curve import ForgettingCurvePlugin
from kancl.plugins.off_grid import OffGridPlugin
from kancl.plugins.recorder import Diverged, RecorderPlugin
from kancl.reporting import ProgressPlugin, TensorBoardPlugin
from kancl.runner.build import (
    Parts,
    build,
    build_optimizer,
    iterations_planned,
    resolve_device,
)
from kancl.runner.folder import RunFolder
from kancl.runner.registry import GROUPS
from kancl.runner.seeding import SeedingPlugin, stream_seed
from kancl.strategies import TrainingSetup, trains_jointly


def run(
    config: RunConfig,
    *,
    parts: Parts | None = None,
    console: Console | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train and evaluate as configured, write the run folder, return its summary.

    A completed run is not repeated unless ``config.overwrite``. A run that fails or
    diverges is written down as such, with its traceback; only Ctrl-C gets out.

    Args:
        parts: what ``build`` made of the configuration; made here if left out. They
            serve one run.

    Raises: ConfigError, before anything is written, for values that cannot work.
    """
    console = console or Console()
    folder = RunFolder(config)
    done = folder.completed()
    if done is not None and not config.overwrite:
        if not quiet:
            _say(console, f"{folder.path}: completed before, skipped (overwrite=true)")
        return done
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    device = resolve_device(config.device)
    parts = parts or build(config)
    if not quiet:
        _introduce(console, folder, parts)
    folder.start(device)
    summary = {**_identity(config, parts), "status": "failed"}
    recorder = RecorderPlugin(
        parts.benchmark.info.n_experiences,
        trains_jointly=trains_jointly(config.strategy.name),
    )
    board = TensorBoardPlugin(
        folder.path,
        recorder,
        label=f"{config.model.name}-{config.strategy.name}",
        card=_card(summary),
    )
    off_grid = OffGridPlugin(recorder, parts.benchmark.test_stream)
    try:
        _train(config, parts, recorder, off_grid, board, console, quiet)
        summary["status"] = "completed"
    except Exception as error:
        summary["status"] = "diverged" if isinstance(error, Diverged) else "failed"
        summary["error"] = f"{type(error).__name__}: {error}"
        folder.write_error(traceback.format_exc())
    summary |= _results(recorder, off_grid)
    folder.write_matrix(recorder.matrix)
    if config.scenario.options.get("validation"):
        validation = _validation_matrix(recorder)
        folder.write_matrix(validation, "validation_matrix.csv")
        summary["validation_accuracy"] = summarise(validation)["average_accuracy"]
    folder.write_metrics(recorder.measurements)
    if config.keep_model:
        folder.write_model(parts.model)
    board.close(_hparams(config), summary)
    folder.write_summary(summary)
    if not quiet:
        _conclude(console, folder, summary)
    return summary


def _train(
    config: RunConfig,
    parts: Parts,
    recorder: RecorderPlugin,
    off_grid: OffGridPlugin,
    board: TensorBoardPlugin,
    console: Console,
    quiet: bool,
) -> None:
    jointly = recorder.trains_jointly
    iterations = iterations_planned(config, parts.benchmark, jointly)
    evaluation, training = config.evaluation, config.training
    plugins: list[Any] = [SeedingPlugin(config.seed), recorder]
    if evaluation.samples:
        every = evaluation.every_iterations or math.ceil(
            max(iterations) / evaluation.points_per_experience
        )
        plugins.append(
            ForgettingCurvePlugin(
                recorder, parts.benchmark.test_stream, every, evaluation.samples
            )
        )
    optimizer = build_optimizer(config, parts.model.parameters())
    if training.lr_gamma is not None:
        scheduler = ExponentialLR(optimizer, training.lr_gamma)
        plugins.append(LRSchedulerPlugin(scheduler, reset_scheduler=True))
    setup = TrainingSetup(
        model=parts.model,
        optimizer=optimizer,
        batch_size=training.batch_size,
        epochs=training.epochs,
        iterations=training.iterations,
        eval_batch_size=training.eval_batch_size,
        device=resolve_device(config.device),
        plugins=[*plugins, off_grid, board],
        reset_optimizer=config.reset_optimizer,
        seed=stream_seed(config.seed, "strategy"),
    )
    builder = GROUPS["strategy"].builder(config.strategy.name)
    strategy: SupervisedTemplate = builder(setup, **config.strategy.options)
    if isinstance(strategy, Cumulative) and training.iterations is None:
        iterations = list(itertools.accumulate(iterations))
    progress = ProgressPlugin(
        recorder,
        title=f"{config.model.name}-{config.strategy.name} seed {config.seed}",
        total_iterations=sum(iterations),
        console=console,
        quiet=quiet,
    )
    strategy.plugins.append(progress)
    with progress:
        for _ in _learn(strategy, parts, jointly):
            if off_grid.shares and not quiet:
                _say(console, f"  values outside the grid: {_shares(off_grid.shares)}")


def _learn(
    strategy: SupervisedTemplate, parts: Parts, jointly: bool
) -> Iterator[None]:
    """Evaluate; train and evaluate on one experience after the other, pausing there.

    A growing head has no outputs before training, so nothing to evaluate.
    """
    benchmark = parts.benchmark
    streams = [benchmark.test_stream]
    if "validation" in benchmark.streams:
        streams.append(benchmark.streams["validation"])
    if parts.head != "growing":
        for stream in streams:
            strategy.eval(stream)
    for part in [benchmark.train_stream] if jointly else benchmark.train_stream:
        strategy.train(part)
        for stream in streams:
            strategy.eval(stream)
        yield


def _validation_matrix(recorder: RecorderPlugin) -> Tensor:
    matrix = empty_matrix(recorder.n_experiences)
    for experience in range(recorder.n_experiences):
        series = recorder.series("validation_accuracy", experience)
        for iteration, accuracy in zip(*series):
            row = sum(border <= iteration for border in recorder.borders)
            row = len(matrix) - 1 if row and recorder.trains_jointly else row
            matrix[row, experience] = accuracy
    return matrix


def _identity(config: RunConfig, parts: Parts) -> dict[str, Any]:
    """What was run."""
    info = parts.benchmark.info
    return {
        "scenario": f"{config.scenario.name}-{info.incremental}",
        "n_experiences": info.n_experiences,
        "model": config.model.name,
        "strategy": config.strategy.name,
        "optimizer": config.optimizer.name,
        "seed": config.seed,
        "head": parts.head,
        "hidden": list(parts.size.hidden),
        "match": config.match,
        "matched_to": asdict(parts.reference) if parts.reference else None,
        "n_parameters": parts.size.n_parameters,
        "flops": parts.size.flops,
    }


def _results(recorder: RecorderPlugin, off_grid: OffGridPlugin) -> dict[str, Any]:
    """What came out; metrics that are undefined are None and say why."""
    return {
        **summarise(recorder.matrix),
        "n_iterations": recorder.iteration,
        "train_seconds": recorder.train_seconds,
        "eval_seconds": recorder.eval_seconds,
        "off_grid_share": list(off_grid.shares) or None,
    }


def _hparams(config: RunConfig) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in plain(config).items():
        if isinstance(value, dict):
            flat |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            flat[key] = value
    return {key: value for key, value in flat.items() if key not in NOT_HASHED}


def _card(summary: dict[str, Any]) -> str:
    rows = [f"| {key} | {value} |" for key, value in summary.items() if key != "status"]
    return "\n".join(["| run | |", "|---|---|", *rows])


def _introduce(console: Console, folder: RunFolder, parts: Parts) -> None:
    _say(console, f"{folder.path}")
    sizes = [parts.size] if parts.reference is None else [parts.size, parts.reference]
    for size, role in zip(sizes, ["", " (matched to)"]):
        widths = ", ".join(map(str, size.hidden))
        _say(
            console,
            f"  {size.name}{role}: hidden [{widths}], {size.n_parameters:,} parameters, "
            f"{size.flops:,} FLOPs per sample",
        )


def _conclude(console: Console, folder: RunFolder, summary: dict[str, Any]) -> None:
    if summary["status"] != "completed":
        _say(console, f"  {summary['status']}: {summary['error']}")
        _say(console, f"  traceback: {folder.path / 'error.txt'}")


def _shares(shares: Sequence[float]) -> str:
    return ", ".join(f"layer {k} {share:.1%}" for k, share in enumerate(shares, start=1))


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)
