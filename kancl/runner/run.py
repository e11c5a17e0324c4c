"""Make one run, from its configuration to its folder."""

import math
import traceback
from contextlib import nullcontext, suppress
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from avalanche.training.plugins import SupervisedPlugin
from avalanche.training.supervised import Cumulative
from rich.console import Console

from kancl.config import RunConfig, plain
from kancl.config.files import flat
from kancl.config.schema import NOT_HASHED
from kancl.interruption import Interrupted, Interruption
from kancl.metrics.score_matrix import matrix_from_series, summarise
from kancl.observe.curves import EpochEvaluationPlugin, ForgettingCurvePlugin
from kancl.observe.off_grid import OffGridPlugin
from kancl.observe.recorder import Diverged, RecorderPlugin
from kancl.reporting import ProgressPlugin, TensorBoardPlugin
from kancl.runner.build import Parts, build, build_strategy, iterations_planned
from kancl.runner.checkpoint import CheckpointFolder, CheckpointPlugin, Unresumable
from kancl.runner.diagnosis import Observers
from kancl.runner.identity import environment, provenance, run_folder
from kancl.runner.machine import (
    be_deterministic,
    flushed_denormals,
    is_out_of_memory,
    keep_freed_memory,
    resolve_device,
    what_to_change,
)
from kancl.runner.summary import STATE_BYTES, identity, results
from kancl.runs import RunFolder, names, read_completed, run_lock
from kancl.strategies import strategy_state_bytes, trains_jointly


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
    keep_freed_memory()
    be_deterministic(config.deterministic)
    made_in = environment(resolve_device(config.device))
    folder, interruption = RunFolder(path), Interruption()
    with run_lock(path), interruption.listening(), flushed_denormals():
        checkpoints = CheckpointFolder(path / names.CHECKPOINTS, provenance(config))
        points = checkpoints.points(say) if done is None else []
        for point in [*points, None]:
            parts = parts or build(config)
            checkpointing = CheckpointPlugin(
                checkpoints, config.checkpoint, point, interruption, say
            )
            if not quiet:
                say("\n".join([f"{path}", *_sizes(parts)]))
            if point is None:
                checkpoints.clear()
                folder.start(plain(config), made_in)
            else:
                say(f"  {path.name} resumes at iteration {point.iteration}")
                folder.resume(point.iteration, made_in)
            try:
                made = _Run(
                    config, parts, folder, checkpointing, None if quiet else console
                )
                summary = made.make(interruption)
                break
            except Unresumable as error:
                say(f"{checkpoints.path / checkpointing.name} is refused: {error}")
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


def _sizes(parts: Parts) -> list[str]:
    return [
        f"  {size.name}{role}: hidden [{', '.join(map(str, size.hidden))}], "
        f"{size.n_parameters:,} parameters, {size.flops:,} FLOPs per sample"
        for size, role in [(parts.size, ""), (parts.reference, " (matched to)")]
        if size is not None
    ]


class _Run:
    """One run in the making: what observes it, and what it leaves.

    Args:
        checkpointing: knows where the run resumes.
        console: for the progress display; None shows none.
    """

    def __init__(
        self,
        config: RunConfig,
        parts: Parts,
        folder: RunFolder,
        checkpointing: CheckpointPlugin,
        console: Console | None,
    ) -> None:
        self.config, self.parts, self.folder = config, parts, folder
        self.checkpointing, self.console = checkpointing, console
        self.summary = {**identity(config, parts), "status": "failed"}
        benchmark, evaluation = parts.benchmark, config.evaluation
        self.recorder = RecorderPlugin(
            benchmark.info.n_experiences,
            trains_jointly=trains_jointly(config.strategy.builder),
            score=benchmark.info.score,
        )
        self.observers = Observers(config, parts, self.recorder)
        self.off_grid = OffGridPlugin(self.recorder, benchmark.test_stream)
        self.board: list[TensorBoardPlugin] = []
        if config.tensorboard != "none":
            rows = [f"| {k} | {v} |" for k, v in self.summary.items() if k != "status"]
            board = TensorBoardPlugin(
                folder.path,
                self.recorder,
                label=f"{config.model.name}-{config.strategy.name}",
                card="\n".join(["| run | |", "|---|---|", *rows]),
                figures=config.tensorboard == "all",
                picture_share=0.05,
                resumed_at=checkpointing.resumed_at,
            )
            self.board.append(board)
        self.iterations = iterations_planned(config, benchmark)
        self.plugins: list[SupervisedPlugin] = [self.recorder]
        if evaluation.samples:
            every = math.ceil(max(self.iterations) / evaluation.points_per_experience)
            curves = ForgettingCurvePlugin(
                self.recorder,
                benchmark.test_stream,
                evaluation.every_iterations or every,
                evaluation.samples,
            )
            self.plugins.append(curves)
        self.plugins += [self.off_grid, *self.observers.plugins, *self.board]

    def make(self, interruption: Interruption) -> dict[str, Any]:
        """Train, evaluate and write; returns the summary.

        Raises: Unresumable, if the state to resume from does not fit.
        """
        device = resolve_device(self.config.device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        begun, trace = dict(self.summary), ""
        try:
            self._train()
            self.summary["status"] = "completed"
        except Unresumable:
            raise
        except Interrupted as stopped:
            stopped.wrote = self.checkpointing.write(inside=False)
            raise
        except Exception as error:
            if isinstance(error, Diverged):
                self.summary["status"] = "diverged"
            self.summary["error"] = self._in_words(error)
            trace = traceback.format_exc()
        try:
            with interruption.waiting():
                self.observers.write(self.folder, self.board)
                if trace:
                    self.folder.write_file(names.ERROR, trace)
                self._write()
        except OSError as error:  # a full disk: what is there stays
            return {"error": str(error), **self.summary, "status": "failed"}
        except Exception as error:
            said = f"results could not be written: {self._in_words(error)}"
            self.summary = {**begun, "error": said}
            with suppress(OSError):
                self.folder.write_file(names.ERROR, traceback.format_exc())
                self.folder.write_json(names.SUMMARY, self.summary)
        return self.summary

    def _train(self) -> None:
        """Evaluate; train and evaluate on one experience after the other.

        What is behind the point that the run resumes from is not done again. A growing
        head has no outputs before training, so nothing to evaluate.
        """
        config, benchmark, recorder = self.config, self.parts.benchmark, self.recorder
        streams = [benchmark.test_stream]
        if "validation" in benchmark.streams:
            streams.append(benchmark.streams["validation"])
        if config.evaluation.each_epoch:
            curves = EpochEvaluationPlugin([benchmark.train_stream, streams[-1]])
            self.plugins.append(curves)
        strategy = build_strategy(config, self.parts, self.plugins, recorder.add)
        displays: list[Any] = [*self.board]
        progress: ProgressPlugin | nullcontext[None] = nullcontext()
        if self.console is not None:
            iterations = self.iterations
            if isinstance(strategy, Cumulative) and config.training.iterations is None:
                iterations = list(accumulate(iterations))
            progress = ProgressPlugin(
                recorder,
                title=f"{config.model.name}-{config.strategy.name} seed {config.seed}",
                total_iterations=sum(iterations),
                console=self.console,
            )
            for plugins in (strategy.plugins, self.plugins, displays):
                plugins.append(progress)
        n_done = self.checkpointing.attach(strategy, benchmark, recorder, displays)
        with progress:
            if self.parts.head != "growing" and self.checkpointing.resumed_at is None:
                for stream in streams:
                    strategy.eval(stream)
            train = benchmark.train_stream
            trainings = [train] if recorder.trains_jointly else list(train)
            for number, part in enumerate(trainings[n_done:], start=n_done):
                self.checkpointing.at_boundary(number)
                self.checkpointing.mute(self.plugins)
                strategy.train(part)
                recorder.add(STATE_BYTES, strategy_state_bytes(strategy))
                for stream in streams:
                    strategy.eval(stream)
                if self.off_grid.shares and self.console is not None:
                    each = enumerate(self.off_grid.shares, start=1)
                    shares = ", ".join(f"layer {k} {share:.1%}" for k, share in each)
                    line = f"  values outside the grid: {shares}"
                    self.console.print(line, highlight=False, soft_wrap=True)

    def _write(self) -> None:
        """Write what came out; the summary, which says that all is there, last."""
        config, recorder, folder = self.config, self.recorder, self.folder
        self.summary |= results(config, self.parts, recorder)
        self.summary["off_grid_share"] = list(self.off_grid.shares) or None
        folder.write_matrix(recorder.matrix, recorder.score.name)
        if config.scenario.options.get("validation"):
            n = recorder.n_experiences
            series = {
                k: zip(*recorder.series("validation_accuracy", k)) for k in range(n)
            }
            validation = matrix_from_series(
                series, recorder.boundaries, n, recorder.trains_jointly
            )
            folder.write_matrix(validation, "validation")
            accuracy = summarise(validation)["average_accuracy"]
            self.summary["validation_accuracy"] = accuracy
        folder.write_metrics(recorder.measurements)
        if config.keep_model:
            state = {k: v.cpu() for k, v in self.parts.model.state_dict().items()}
            folder.write_tensors(names.MODEL, state)
        settings = flat(plain(config))
        for writer in self.board:
            shown = {k: v for k, v in settings.items() if k not in NOT_HASHED}
            writer.close(shown, self.summary)
        folder.write_json(names.SUMMARY, self.summary)

    def _in_words(self, error: Exception) -> str:
        said = f"{type(error).__name__}: {error}"
        if is_out_of_memory(error):
            return f"{what_to_change(self.config)} ({said})"
        return said
