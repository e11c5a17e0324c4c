"""Make one run, from its configuration to its folder."""

import math
import traceback
from contextlib import nullcontext, suppress
from dataclasses import asdict
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from avalanche.training.plugins import SupervisedPlugin
from avalanche.training.supervised import Cumulative
from rich.console import Console

from kancl import strategies
from kancl.config import ConfigError, RunConfig, plain
from kancl.config.typed import hashed
from kancl.interruption import Interrupted, Interruption
from kancl.metrics.score_matrix import summarise
from kancl.models import cost
from kancl.observe.curves import (
    EpochEvaluationPlugin,
    ForgettingCurvePlugin,
    OffGridPlugin,
)
from kancl.observe.recorder import RecorderPlugin
from kancl.plugins.loop import BestEpochPlugin
from kancl.plugins.plugin import Diverged
from kancl.plugins.state import Unresumable
from kancl.reporting import ProgressPlugin, TensorBoardPlugin
from kancl.reporting.forecast import forecast_line
from kancl.reporting.loggers import LOGGERS
from kancl.reporting.progress import Place
from kancl.runner import machine
from kancl.runner.build import Parts, build, build_strategy, iterations_planned
from kancl.runner.checkpoint import CheckpointPlugin
from kancl.runner.diagnosis import Observers
from kancl.runner.identity import (
    changed_since,
    environment,
    made_of,
    provenance,
    run_folder,
)
from kancl.runner.seeding import stream_seeds
from kancl.runs import RunFolder, names, read_completed, run_lock
from kancl.runs.checkpoints import CheckpointFolder
from kancl.runs.files import WriteError, check_place, checkpoints_of, own_folder
from kancl.runs.measurements import all_metrics, forecasts_of, matrix_of
from kancl.runs.replacement import Replacement

STATE_BYTES = "strategy_state_bytes"  # that a strategy keeps, after each experience


@machine.taking_turns()
def run(
    config: RunConfig,
    *,
    parts: Parts | None = None,
    console: Console | None = None,
    quiet: bool = False,
    place: Place | None = None,
) -> dict[str, Any]:
    """Train and evaluate as configured, write the run folder, return its summary.

    A completed run is not repeated unless ``config.overwrite``, and then stays until a
    new one has completed. One that was killed is resumed from its last checkpoint, to the
    same bytes. A run that fails or diverges is written down as such, with its traceback.

    Args:
        parts: what ``build`` made of the configuration; made here if left out. They
            serve one run.
        place: of one of several runs: nothing but a redrawn line is shown.
    Raises: ConfigError, before anything is written, for values that cannot work.
        Interrupted, once a checkpoint is written, for SIGTERM and Ctrl-C. RunLocked, if
        another process makes this run.
    """
    console = console or Console()
    shown = None if quiet else console
    quiet = quiet or place is not None
    say = partial(console.print, highlight=False, soft_wrap=True, markup=False)
    path = run_folder(config)
    new = Replacement(path, *names.OWNED, names.KEPT)
    done = read_completed(path)
    if done is not None and not config.overwrite and not new.is_whole:
        if not quiet:
            hint = f"overwrite=true{_missing(config, path)}"
            say(f"{path}: completed before, skipped ({hint})")
        return done
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    machine.keep_freed_memory()
    machine.be_deterministic(config.deterministic)
    device = machine.resolve_device(config.device)
    made_in = environment(device) | made_of(config)
    own_folder(path, may_be_moved=True)
    check_place(*(path / name for name in (*names.FILES, *names.LOCKS)))
    interruption = Interruption()
    with run_lock(path), interruption.listening(), machine.flushed_denormals():
        if new.finish():
            say(f"{path}: made again; the end of it, which was cut off, is made up for")
            if (done := read_completed(path)) is not None:
                return done
        folder = RunFolder(path if done is None else own_folder(new.path))
        kept_in = checkpoints_of(folder.path)
        checkpoints = CheckpointFolder(kept_in, provenance(config), str(device))
        for point in [*checkpoints.points(say), None]:
            parts = parts or build(config)
            if run_folder(config) != path:
                raise ConfigError("a data file changed while it was read: try again")
            if not quiet:
                say("\n".join([f"{path}", *_sizes(config, parts)]))
            if point is None:
                checkpoints.clear()
                if not quiet and (change := changed_since(path, config)):
                    say(f"  {change}")
                folder.start(plain(config), made_in)
            else:
                say(f"  {path.name} resumes at iteration {point.iteration}")
                folder.resume(point.iteration, made_in)
            options = config.checkpoint, point, interruption, say
            state = CheckpointPlugin(checkpoints, *options)
            made = _Run(config, parts, folder, state, shown, place)
            try:
                summary = made.make(interruption)
                break
            except Unresumable as error:
                assert point is not None
                say(f"{checkpoints.path / point.name} is refused: {error}")
                parts = None  # they serve one run
        if summary["status"] != "failed" and not config.checkpoint.keep:
            with suppress(WriteError):  # they are in nobody's way
                checkpoints.clear()
        if summary["status"] == "completed" and done is not None:
            new.commit()
    if summary["status"] != "completed" and not quiet:
        say(f"  {summary['status']}: {summary['error']}")
        say(f"  traceback: {folder.path / names.ERROR}")
        if done is not None:
            say("  the result from before stays")
    return summary


def _missing(config: RunConfig, path: Path) -> str:
    """Name what is asked for and a completed run, asked otherwise, did not write."""
    missing = []
    if config.keep_model and not (path / names.MODEL).is_file():
        missing.append(names.MODEL)
    if config.events != "none" and not any(path.glob(names.EVENTS)):
        missing.append("TensorBoard's files")
    return f": it has no {' and '.join(missing)}" if missing else ""


def _sizes(config: RunConfig, parts: Parts) -> list[str]:
    if strategies.trains_last_layer_only(config.strategy.builder):
        named = parts.size.name, config.strategy.name
        return ["  {}: frozen features and a last layer that {} solves".format(*named)]
    return [
        f"  {size.name}{role}: hidden [{', '.join(map(str, size.hidden))}], "
        f"{size.n_parameters:,} parameters, {size.flops:,} FLOPs per sample"
        for size, role in [(parts.size, ""), (parts.reference, " (matched to)")]
        if size is not None
    ]


class _Run:
    """One run in the making: what observes it, and what it leaves."""

    def __init__(
        self,
        config: RunConfig,
        parts: Parts,
        folder: RunFolder,
        checkpointing: CheckpointPlugin,
        console: Console | None,
        place: Place | None,
    ) -> None:
        self.config, self.parts, self.folder = config, parts, folder
        self.checkpointing, self.console, self.place = checkpointing, console, place
        self.summary = {**identity(config, parts), "status": "failed"}
        benchmark, evaluation = parts.benchmark, config.evaluation
        n, score = benchmark.info.n_experiences, benchmark.info.score
        jointly = strategies.trains_jointly(config.strategy.builder)
        self.recorder = RecorderPlugin(n, trains_jointly=jointly, score=score)
        self.plugins: list[SupervisedPlugin] = [self.recorder]
        self.observers = Observers(config, parts, self.recorder, self.plugins)
        self.off_grid = OffGridPlugin(self.recorder, benchmark.test_stream)
        self.board: list[TensorBoardPlugin] = []
        if config.events != "none":
            rows = [f"| {k} | {v} |" for k, v in self.summary.items() if k != "status"]
            board = TensorBoardPlugin(
                folder.path,
                self.recorder,
                label=config.label,
                card="\n".join(["| run | |", "|---|---|", *rows]),
                figures=config.events == "all",
                picture_share=0.05,
                resumed_at=checkpointing.resumed_at,
            )
            self.board.append(board)
        self.loggers = [
            LOGGERS[name](
                folder.path,
                hashed(config),
                resumed=checkpointing.resumed_at is not None,
            )
            for name in dict.fromkeys(config.loggers)
            if name in LOGGERS
        ]
        self.recorder.listeners += [logger.listen for logger in self.loggers]
        self.iterations = iterations_planned(config, benchmark)
        if evaluation.samples:
            every = math.ceil(max(self.iterations) / evaluation.points_per_experience)
            points = evaluation.every_iterations or every, evaluation.samples
            curves = ForgettingCurvePlugin(
                self.recorder,
                benchmark.test_stream,
                *points,
                replaced_weights=config.training.restore_best,
            )
            self.plugins.append(curves)
        self.plugins += [self.off_grid, *self.observers.plugins, *self.board]

    def make(self, interruption: Interruption) -> dict[str, Any]:
        """Train, evaluate and write; returns the summary.

        Raises: Unresumable, if the state to resume from does not fit.
        """
        if (device := machine.resolve_device(self.config.device)).type == "cuda":
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
            self.summary["error"] = machine.in_words(error, self.config)
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
            why = machine.in_words(error, self.config)
            self.summary = {**begun, "error": f"results could not be written: {why}"}
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
        held_out = benchmark.streams.get("validation")
        streams = [benchmark.test_stream, *([] if held_out is None else [held_out])]
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
                title=f"{config.label} seed {config.seed}",
                total_iterations=sum(iterations),
                console=self.console,
                place=self.place,
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
                self.checkpointing.at_boundary(number, self.plugins)
                strategy.train(part)
                recorder.add(STATE_BYTES, strategies.strategy_state_bytes(strategy))
                for stream in streams:
                    strategy.eval(stream)
                if self.off_grid.shares and self.console and self.place is None:
                    each = enumerate(self.off_grid.shares, start=1)
                    shares = ", ".join(f"layer {k} {share:.1%}" for k, share in each)
                    line = f"  values outside the grid: {shares}"
                    self.console.print(line, highlight=False, soft_wrap=True)

    def _write(self) -> None:
        """Write what came out; the summary, which says that all is there, last."""
        config, recorder, folder = self.config, self.recorder, self.folder
        self.summary |= results(config, self.parts, recorder)
        self.summary["off_grid_share"] = list(self.off_grid.shares) or None
        self.summary |= self.observers.costs()
        foretold = forecasts_of(recorder.measurements)
        if self.console is not None and foretold:
            line = f"  {forecast_line(foretold, recorder.matrix)}"
            self.console.print(line, highlight=False, soft_wrap=True)
        folder.write_matrix(recorder.matrix, recorder.score.name)
        if config.scenario.options.get("validation"):
            rows, n = recorder.measurements, recorder.n_experiences
            validation = matrix_of(rows, "validation_accuracy", n)
            folder.write_matrix(validation, "validation")
            accuracy = summarise(validation)["average_accuracy"]
            self.summary["validation_accuracy"] = accuracy
        folder.write_metrics(recorder.measurements)
        if config.keep_model:
            state = {k: v.cpu() for k, v in self.parts.model.state_dict().items()}
            folder.write_tensors(names.MODEL, state)
        for writer in (*self.board, *self.loggers):
            writer.close(hashed(config), self.summary)
        folder.write_json(names.SUMMARY, self.summary)


def identity(config: RunConfig, parts: Parts) -> dict[str, Any]:
    """What is run, as ``summary.json`` begins."""
    info, size = parts.benchmark.info, parts.size
    return {
        "scenario": f"{config.scenario.name}-{info.incremental}",
        "n_experiences": info.n_experiences,
        **{k: getattr(config, k).name for k in ("model", "strategy", "optimizer")},
        "seed": config.seed,
        "seeds": asdict(stream_seeds(config)),
        "head": parts.head,
        "hidden": list(size.hidden),
        "match": config.match,
        "matched_to": asdict(parts.reference) if parts.reference else None,
        "n_parameters": size.n_parameters,
        "n_active_parameters": size.n_active_parameters,
        "flops": size.flops,
    }


def results(
    config: RunConfig, parts: Parts, recorder: RecorderPlugin
) -> dict[str, Any]:
    """Metrics (undefined ones are None and say why) and costs, where they can be told.

    The peak of memory is the GPU's; that of a process on a CPU is no run's own. FLOPs
    are of the current experiences' samples: what a strategy adds is not counted.
    """
    found: dict[str, Any] = {}
    flops, passes = parts.size.flops, 3  # forward and backward, by custom
    if strategies.trains_last_layer_only(config.strategy.builder):
        # frozen features and a last layer took the network's place
        flops, passes = cost.forward_flops(parts.model), 1
        found["n_parameters"] = cost.n_parameters(parts.model)
        found["n_active_parameters"] = cost.n_active_parameters(parts.model)
        found["flops"] = flops
    found |= all_metrics(recorder.matrix, recorder.measurements, recorder.score)
    n_iterations, seconds = recorder.iteration, recorder.train_seconds
    found |= {
        "n_iterations": n_iterations,
        "train_seconds": seconds,
        "eval_seconds": recorder.eval_seconds,
        "training_flops": passes * flops * n_iterations * config.training.batch_size,
    }
    if seconds:
        found["iterations_per_second"] = n_iterations / seconds
    if (device := machine.resolve_device(config.device)).type == "cuda":
        found["peak_memory_bytes"] = torch.cuda.max_memory_allocated(device)
    for name in BestEpochPlugin.MEASURED:
        if each := recorder.series(name)[1]:
            found[name] = [int(value) for value in each]
    if state_bytes := recorder.series(STATE_BYTES)[1]:
        found[STATE_BYTES] = int(state_bytes[-1])
    return found
