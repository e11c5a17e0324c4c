"""Make one run, from its configuration to its folder."""

from __future__ import annotations

import math
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from kancl.config import RunConfig, plain
from kancl.config.schema import NOT_HASHED
from kancl.interruption import Interrupted, Interruption
from kancl.metrics.score_matrix import matrix_from_series, summarise
from kancl.models.cost import forward_flops, n_active_parameters, n_parameters
from kancl.observe.curves import ForgettingCurvePlugin
from kancl.observe.off_grid import OffGridPlugin
from kancl.observe.recorder import Diverged, RecorderPlugin
from kancl.reporting import TensorBoardPlugin
from kancl.runner.build import Parts, Size, build, resolve_device
from kancl.runner.checkpoint import (
    CheckpointFolder,
    CheckpointPlugin,
    Unresumable,
)
from kancl.runner.denormals import flushed_denormals
from kancl.runner.diagnosis import Observers
from kancl.runner.identity import provenance, run_folder
from kancl.runner.memory import is_out_of_memory, what_to_change
from kancl.runner.seeding import be_deterministic, stream_seeds
from kancl.runner.train import STATE_BYTES, iterations_planned, train
from kancl.runs import RunFolder, all_metrics, names, read_completed, run_lock
from kancl.runs.provenance import environment
from kancl.strategies import trains_jointly, trains_last_layer_only


def run(
    config: RunConfig,
    *,
    parts: Parts | None = None,
    console: Console | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train and evaluate as configured, write the run folder, return its summary.

    A completed run is not repeated unless ``config.overwrite``; one that was killed is
    resumed from its last checkpoint, to the same bytes. A run that fails or diverges is
    written down as such, with its traceback.

    Args:
        parts: what ``build`` made of the configuration; made here if left out. They
            serve one run.

    Raises: ConfigError, before anything is written, for values that cannot work.
        Interrupted, once a checkpoint is written, for SIGTERM and Ctrl-C. RunLocked, if
        another process makes this run.
    """
    console = console or Console()
    folder = RunFolder(run_folder(config))
    done = read_completed(folder.path)
    if done is not None and not config.overwrite:
        if not quiet:
            without = _not_written(config, folder)
            hint = (
                f"overwrite=true: it has no {without}" if without else "overwrite=true"
            )
            _say(console, f"{folder.path}: completed before, skipped ({hint})")
        return done
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    be_deterministic(config.deterministic)
    device = resolve_device(config.device)
    interruption = Interruption()
    with run_lock(folder.path), interruption.listening(), flushed_denormals():
        checkpoints = CheckpointFolder(
            folder.path / names.CHECKPOINTS, provenance(config)
        )
        say = partial(_say, console)
        points = checkpoints.points(say) if done is None else []
        for point in [*points, None]:
            parts = parts or build(config)
            keeper = CheckpointPlugin(
                checkpoints, config.checkpoint, point, interruption, say
            )
            if not quiet:
                _introduce(console, folder, parts)
            if point is None:
                checkpoints.clear()
                folder.start(plain(config), environment(device))
            else:
                say(f"  {folder.path.name} resumes at iteration {point.iteration}")
                folder.resume(point.iteration, environment(device))
            try:
                shown = None if quiet else console
                summary = _make(config, parts, folder, keeper, interruption, shown)
                break
            except Unresumable as error:
                say(f"{checkpoints.path / keeper.name} is refused: {error}")
                parts = None  # they serve one run
        if summary["status"] != "failed" and not config.checkpoint.keep:
            checkpoints.clear()
    if not quiet:
        _conclude(console, folder, summary)
    return summary


def _not_written(config: RunConfig, folder: RunFolder) -> str:
    """What is asked for and the completed run, asked otherwise, did not write."""
    missing = []
    if config.keep_model and not (folder.path / names.MODEL).is_file():
        missing.append("model.pt")
    if config.tensorboard != "none" and not any(folder.path.glob(names.EVENTS)):
        missing.append("TensorBoard's files")
    return " and ".join(missing)


def _make(
    config: RunConfig,
    parts: Parts,
    folder: RunFolder,
    keeper: CheckpointPlugin,
    interruption: Interruption,
    console: Console | None,
) -> dict[str, Any]:
    """Make the run from its beginning, or from where ``keeper`` resumes it.

    Raises: Unresumable, if the state to resume from does not fit.
    """
    device = resolve_device(config.device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    summary = {**_identity(config, parts), "status": "failed"}
    recorder = RecorderPlugin(
        parts.benchmark.info.n_experiences,
        trains_jointly=trains_jointly(config.strategy.builder),
        score=parts.benchmark.info.score,
    )
    observers = Observers(config, parts, recorder)
    off_grid = OffGridPlugin(recorder, parts.benchmark.test_stream)
    board = _board(config, folder, recorder, summary, keeper.resumed_at)
    plugins = [*_curve(config, parts, recorder), off_grid, *observers.plugins, *board]
    try:
        for _ in train(config, parts, recorder, plugins, console, keeper):
            if off_grid.shares and console is not None:
                _say(console, f"  values outside the grid: {_shares(off_grid.shares)}")
        summary["status"] = "completed"
    except Unresumable:
        raise
    except Interrupted as stopped:
        stopped.wrote = keeper.write(inside=False)
        raise
    except Exception as error:
        summary["status"] = "diverged" if isinstance(error, Diverged) else "failed"
        summary["error"] = _in_words(error, config)
        summary["traceback"] = traceback.format_exc()
    try:
        with interruption.waiting():
            observers.write(folder, board)
            _write_down(config, parts, folder, recorder, off_grid, board, summary)
    except OSError as error:  # a full disk: what is there stays
        summary = {"error": str(error), **summary, "status": "failed"}
    except Exception as error:
        summary = {**_identity(config, parts), "status": "failed"}
        summary["error"] = f"results could not be written: {_in_words(error, config)}"
        with suppress(OSError):
            folder.write_error(traceback.format_exc())
            folder.write_summary(summary)
    return summary


def _in_words(error: Exception, config: RunConfig) -> str:
    said = f"{type(error).__name__}: {error}"
    return f"{what_to_change(config)} ({said})" if is_out_of_memory(error) else said


def _write_down(
    config: RunConfig,
    parts: Parts,
    folder: RunFolder,
    recorder: RecorderPlugin,
    off_grid: OffGridPlugin,
    board: Sequence[TensorBoardPlugin],
    summary: dict[str, Any],
) -> None:
    """Everything that came out; the summary, which says that all is there, last."""
    if "traceback" in summary:
        folder.write_error(summary.pop("traceback"))
    if trains_last_layer_only(config.strategy.builder):
        parts = replace(parts, size=_size_as_trained(parts))
        summary |= _size(parts)
    summary |= _results(recorder, off_grid)
    summary |= _cost(config, parts, recorder, resolve_device(config.device))
    folder.write_matrix(recorder.matrix, recorder.score.name)
    if config.scenario.options.get("validation"):
        validation = _validation_matrix(recorder)
        folder.write_matrix(validation, "validation")
        summary["validation_accuracy"] = summarise(validation)["average_accuracy"]
    folder.write_metrics(recorder.measurements)
    if config.keep_model:
        folder.write_model(parts.model)
    for writer in board:
        writer.close(_hparams(config), summary)
    folder.write_summary(summary)


def _board(
    config: RunConfig,
    folder: RunFolder,
    recorder: RecorderPlugin,
    identity: dict[str, Any],
    resumed_at: int | None,
) -> list[TensorBoardPlugin]:
    if config.tensorboard == "none":
        return []
    label = f"{config.model.name}-{config.strategy.name}"
    return [
        TensorBoardPlugin(
            folder.path,
            recorder,
            label=label,
            card=_card(identity),
            figures=config.tensorboard == "all",
            picture_share=0.05,
            resumed_at=resumed_at,
        )
    ]


def _curve(
    config: RunConfig, parts: Parts, recorder: RecorderPlugin
) -> list[ForgettingCurvePlugin]:
    evaluation = config.evaluation
    if not evaluation.samples:
        return []
    longest = max(iterations_planned(config, parts.benchmark))
    every = evaluation.every_iterations or math.ceil(
        longest / evaluation.points_per_experience
    )
    stream = parts.benchmark.test_stream
    return [ForgettingCurvePlugin(recorder, stream, every, evaluation.samples)]


def _validation_matrix(recorder: RecorderPlugin) -> Tensor:
    """As the accuracy matrix, read off the series: at the end of each training."""
    n = recorder.n_experiences
    series = {k: zip(*recorder.series("validation_accuracy", k)) for k in range(n)}
    return matrix_from_series(series, recorder.borders, n, recorder.trains_jointly)


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
        "seeds": asdict(stream_seeds(config)),
        "head": parts.head,
        "hidden": list(parts.size.hidden),
        "match": config.match,
        "matched_to": asdict(parts.reference) if parts.reference else None,
        **_size(parts),
    }


def _size(parts: Parts) -> dict[str, Any]:
    return {
        "n_parameters": parts.size.n_parameters,
        "n_active_parameters": parts.size.n_active_parameters,
        "flops": parts.size.flops,
    }


def _size_as_trained(parts: Parts) -> Size:
    """Of the frozen features and the last layer that took the network's place."""
    return replace(
        parts.size,
        n_parameters=n_parameters(parts.model),
        n_active_parameters=n_active_parameters(parts.model),
        flops=forward_flops(parts.model),
    )


def _results(recorder: RecorderPlugin, off_grid: OffGridPlugin) -> dict[str, Any]:
    """What came out; metrics that are undefined are None and say why."""
    return {
        **all_metrics(recorder.matrix, recorder.measurements, recorder.score),
        "n_iterations": recorder.iteration,
        "train_seconds": recorder.train_seconds,
        "eval_seconds": recorder.eval_seconds,
        "off_grid_share": list(off_grid.shares) or None,
    }


def _cost(
    config: RunConfig, parts: Parts, recorder: RecorderPlugin, device: torch.device
) -> dict[str, Any]:
    """What it took, where it can be told.

    The peak of memory is the GPU's; that of a process on a CPU is no run's own. FLOPs
    are of the current experiences' samples: what a strategy adds is not counted.
    """
    n_samples = recorder.iteration * config.training.batch_size
    # Forward and backward are three forward passes, by custom.
    passes = 1 if trains_last_layer_only(config.strategy.builder) else 3
    cost: dict[str, Any] = {"training_flops": passes * parts.size.flops * n_samples}
    if recorder.train_seconds:
        rate = recorder.iteration / recorder.train_seconds
        cost["iterations_per_second"] = rate
    if device.type == "cuda":
        cost["peak_memory_bytes"] = torch.cuda.max_memory_allocated(device)
    _, kept = recorder.series(STATE_BYTES)
    if kept:
        cost["strategy_state_bytes"] = int(kept[-1])
    return cost


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
        _say(console, f"  traceback: {folder.path / names.ERROR}")


def _shares(shares: Sequence[float]) -> str:
    return ", ".join(
        f"layer {k} {share:.1%}" for k, share in enumerate(shares, start=1)
    )


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)
