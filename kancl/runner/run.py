"""Make one run, from its configuration to its folder."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from avalanche.training.plugins import SupervisedPlugin
from rich.console import Console

from kancl.config import RunConfig, plain
from kancl.config.schema import NOT_HASHED
from kancl.interruption import Interrupted, Interruption
from kancl.metrics.score_matrix import matrix_from_series, summarise
from kancl.observe.curves import ForgettingCurvePlugin
from kancl.observe.off_grid import OffGridPlugin
from kancl.observe.recorder import Diverged, RecorderPlugin
from kancl.reporting import TensorBoardPlugin
from kancl.runner.build import Parts, build, resolve_device
from kancl.runner.checkpoint import CheckpointFolder, CheckpointPlugin, Unresumable
from kancl.runner.denormals import flushed_denormals
from kancl.runner.diagnosis import Observers
from kancl.runner.identity import provenance, run_folder
from kancl.runner.memory import is_out_of_memory, what_to_change
from kancl.runner.seeding import be_deterministic
from kancl.runner.summary import identity, results
from kancl.runner.train import iterations_planned, train
from kancl.runs import RunFolder, names, read_completed, run_lock
from kancl.runs.provenance import environment
from kancl.strategies import trains_jointly

Say = Callable[[str], None]


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
    say = partial(console.print, highlight=False, soft_wrap=True, markup=False)
    path = run_folder(config)
    done = read_completed(path)
    if done is not None and not config.overwrite:
        if not quiet:
            hint = f"overwrite=true{_missing(config, path)}"
            say(f"{path}: completed before, skipped ({hint})")
        return done
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    be_deterministic(config.deterministic)
    made_in = environment(resolve_device(config.device))
    folder, interruption = RunFolder(path), Interruption()
    with run_lock(path), interruption.listening(), flushed_denormals():
        checkpoints = CheckpointFolder(path / names.CHECKPOINTS, provenance(config))
        points = checkpoints.points(say) if done is None else []
        for point in [*points, None]:
            parts = parts or build(config)
            keeper = CheckpointPlugin(
                checkpoints, config.checkpoint, point, interruption, say
            )
            if not quiet:
                _introduce(say, path, parts)
            if point is None:
                checkpoints.clear()
                folder.start(plain(config), made_in)
            else:
                say(f"  {path.name} resumes at iteration {point.iteration}")
                folder.resume(point.iteration, made_in)
            try:
                made = _Run(config, parts, folder, keeper)
                summary = made.make(interruption, None if quiet else console)
                break
            except Unresumable as error:
                say(f"{checkpoints.path / keeper.name} is refused: {error}")
                parts = None  # they serve one run
        if summary["status"] != "failed" and not config.checkpoint.keep:
            checkpoints.clear()
    if summary["status"] != "completed" and not quiet:
        say(f"  {summary['status']}: {summary['error']}")
        say(f"  traceback: {path / names.ERROR}")
    return summary


def _missing(config: RunConfig, path: Path) -> str:
    """Name what is asked for and a completed run, asked otherwise, did not write."""
    missing = []
    if config.keep_model and not (path / names.MODEL).is_file():
        missing.append(names.MODEL)
    if config.tensorboard != "none" and not any(path.glob(names.EVENTS)):
        missing.append("TensorBoard's files")
    return f": it has no {' and '.join(missing)}" if missing else ""


def _introduce(say: Say, path: Path, parts: Parts) -> None:
    say(f"{path}")
    sizes = [parts.size] if parts.reference is None else [parts.size, parts.reference]
    for size, role in zip(sizes, ["", " (matched to)"]):
        widths = ", ".join(map(str, size.hidden))
        say(
            f"  {size.name}{role}: hidden [{widths}], {size.n_parameters:,} parameters, "
            f"{size.flops:,} FLOPs per sample"
        )


class _Run:
    """One run in the making: what observes it, and what it leaves.

    Args:
        keeper: knows where the run resumes.
    """

    def __init__(
        self,
        config: RunConfig,
        parts: Parts,
        folder: RunFolder,
        keeper: CheckpointPlugin,
    ) -> None:
        self.config, self.parts, self.folder, self.keeper = (
            config,
            parts,
            folder,
            keeper,
        )
        self.summary = {**identity(config, parts), "status": "failed"}
        self.traceback = ""
        info, stream = parts.benchmark.info, parts.benchmark.test_stream
        self.recorder = RecorderPlugin(
            info.n_experiences,
            trains_jointly=trains_jointly(config.strategy.builder),
            score=info.score,
        )
        self.observers = Observers(config, parts, self.recorder)
        self.off_grid = OffGridPlugin(self.recorder, stream)
        self.board: list[TensorBoardPlugin] = []
        if config.tensorboard != "none":
            board = TensorBoardPlugin(
                folder.path,
                self.recorder,
                label=f"{config.model.name}-{config.strategy.name}",
                card=_card(self.summary),
                figures=config.tensorboard == "all",
                picture_share=0.05,
                resumed_at=keeper.resumed_at,
            )
            self.board.append(board)
        self.plugins: list[SupervisedPlugin] = []
        if config.evaluation.samples:
            self.plugins.append(self._curve())
        self.plugins += [self.off_grid, *self.observers.plugins, *self.board]

    def _curve(self) -> ForgettingCurvePlugin:
        benchmark, evaluation = self.parts.benchmark, self.config.evaluation
        longest = max(iterations_planned(self.config, benchmark))
        every = math.ceil(longest / evaluation.points_per_experience)
        return ForgettingCurvePlugin(
            self.recorder,
            benchmark.test_stream,
            evaluation.every_iterations or every,
            evaluation.samples,
        )

    def make(
        self, interruption: Interruption, console: Console | None
    ) -> dict[str, Any]:
        """Train, evaluate and write; returns the summary.

        Raises: Unresumable, if the state to resume from does not fit.
        """
        device = resolve_device(self.config.device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        begun = dict(self.summary)
        try:
            self._train(console)
            self.summary["status"] = "completed"
        except Unresumable:
            raise
        except Interrupted as stopped:
            stopped.wrote = self.keeper.write(inside=False)
            raise
        except Exception as error:
            if isinstance(error, Diverged):
                self.summary["status"] = "diverged"
            self.summary["error"] = self._in_words(error)
            self.traceback = traceback.format_exc()
        try:
            with interruption.waiting():
                self.observers.write(self.folder, self.board)
                self._write()
        except OSError as error:  # a full disk: what is there stays
            return {"error": str(error), **self.summary, "status": "failed"}
        except Exception as error:
            said = f"results could not be written: {self._in_words(error)}"
            self.summary = {**begun, "error": said}
            with suppress(OSError):
                self.folder.write_error(traceback.format_exc())
                self.folder.write_summary(self.summary)
        return self.summary

    def _train(self, console: Console | None) -> None:
        for _ in train(
            self.config, self.parts, self.recorder, self.plugins, console, self.keeper
        ):
            if self.off_grid.shares and console is not None:
                each = enumerate(self.off_grid.shares, start=1)
                shares = ", ".join(f"layer {k} {share:.1%}" for k, share in each)
                line = f"  values outside the grid: {shares}"
                console.print(line, highlight=False, soft_wrap=True)

    def _write(self) -> None:
        """Write what came out; the summary, which says that all is there, last."""
        config, recorder, folder = self.config, self.recorder, self.folder
        if self.traceback:
            folder.write_error(self.traceback)
        self.summary |= results(config, self.parts, recorder)
        self.summary["off_grid_share"] = list(self.off_grid.shares) or None
        folder.write_matrix(recorder.matrix, recorder.score.name)
        if config.scenario.options.get("validation"):
            n = recorder.n_experiences
            series = {
                k: zip(*recorder.series("validation_accuracy", k)) for k in range(n)
            }
            validation = matrix_from_series(
                series, recorder.borders, n, recorder.trains_jointly
            )
            folder.write_matrix(validation, "validation")
            accuracy = summarise(validation)["average_accuracy"]
            self.summary["validation_accuracy"] = accuracy
        folder.write_metrics(recorder.measurements)
        if config.keep_model:
            folder.write_model(self.parts.model)
        for writer in self.board:
            writer.close(_hparams(config), self.summary)
        folder.write_summary(self.summary)

    def _in_words(self, error: Exception) -> str:
        said = f"{type(error).__name__}: {error}"
        if is_out_of_memory(error):
            return f"{what_to_change(self.config)} ({said})"
        return said


def _hparams(config: RunConfig) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in plain(config).items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        flat |= {f"{key}.{name}".rstrip("."): value for name, value in inner}
    return {key: value for key, value in flat.items() if key not in NOT_HASHED}


def _card(summary: dict[str, Any]) -> str:
    rows = [f"| {key} | {value} |" for key, value in summary.items() if key != "status"]
    return "\n".join(["| run | |", "|---|---|", *rows])
