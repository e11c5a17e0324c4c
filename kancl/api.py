"""The front door for Python: make a run, compare, read a run back."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console
from torch import Tensor, nn

from kancl import reporting, runs
from kancl.benchmarks import Benchmark
from kancl.config import ConfigError, RunConfig, typed
from kancl.data.rows import as_tensors
from kancl.interruption import Interrupted
from kancl.models.inspect import evaluate_in_chunks
from kancl.reading import opened
from kancl.reporting.report import benchmarks
from kancl.reporting.report import compare as judge
from kancl.reporting.report import headline, write_report
from kancl.reporting.table import Table
from kancl.reporting.verdicts import Comparison as Verdict
from kancl.runner.build import build, build_strategy
from kancl.runner.identity import run_folder
from kancl.runner.machine import taking_turns
from kancl.runner.registry import GROUPS
from kancl.runner.request.compose import Request, read_request
from kancl.runner.request.values import HELD, overrides_of
from kancl.runner.studies.sweep import make_runs
from kancl.runs import names
from kancl.runs.files import folder_called, unpack

LOG_DIR = "logs"


@dataclass(frozen=True, repr=False, eq=False)
class Run(runs.Run):
    """A run as its folder tells it, with the network that it trained.

    What is wrong with a run is in ``status`` and ``problems``. ``summary``: metrics and
    costs by name. ``metrics``: every measurement, for ``pandas.DataFrame(run.metrics)``.
    ``folder``: where it lies; a folder that is not there if ``log_dir`` was None.

    Args:
        weights: of the network, if they are not to be read from the folder.
    """

    weights: Mapping[str, Tensor] | None = None

    @property
    def accuracy_matrix(self) -> Tensor:
        """``(N + 1, N)``: accuracy on experience (column) after so many experiences (row,
        the first before training); NaN where nothing was measured.

        Raises: ValueError if the run did not complete, or is a regression.
        """
        if self.matrix is None:
            raise ValueError(f"{self.name} is {self.status}: it has no accuracy matrix")
        if "average_accuracy" not in self.recomputed:
            raise ValueError(f"{self.name} is a regression: its RMSEs are in matrix")
        return self.matrix

    @cached_property
    def run_config(self) -> RunConfig:
        """The configuration, typed; on the CPU, wherever the run was made."""
        return replace(typed(dict(self.config), GROUPS), device="cpu")

    @cached_property
    def benchmark(self) -> Benchmark:
        """The benchmark that the run was trained on, built again."""
        with taking_turns():
            return build(self.run_config).benchmark

    @cached_property
    def model(self) -> nn.Module:
        """The trained network with its head, in evaluation mode, on the CPU.

        Raises: ValueError if the run did not keep it.
        """
        weights = self.weights or self._read_weights()
        with taking_turns():
            parts = build(self.run_config, self.benchmark)
            build_strategy(self.run_config, parts)  # some put another network there
            parts.model.load_state_dict(weights)
        return parts.model.eval()

    def _read_weights(self) -> Mapping[str, Tensor]:
        path = self.folder / names.MODEL
        if not path.is_file():
            raise ValueError(
                f"{self.folder} has no {names.MODEL}, so the network is gone: make the run "
                "again with keep_model=true overwrite=true"
            )
        with opened(path) as file:
            return unpack(file)

    def predict(self, x: Tensor | np.ndarray, experience: int | None = None) -> Tensor:
        """Classes, or values of a regression, for inputs ``(n, ...)``.

        Classes are numbered as the targets of ``benchmark`` are: those of the data set
        if class-incremental, else places among an experience's classes.

        Args:
            x: scaled as the benchmark's inputs are (``scenario.normalize``).
            experience: whose head answers, in a task-incremental run, from 0.
        Raises: ValueError for integers, which nobody has scaled, or where the experience
            is missing.
        """
        x = torch.as_tensor(x)
        if not x.is_floating_point():
            raise ValueError(
                f"x is {x.dtype}: scale it as the benchmark's inputs are; bytes of pixels "
                "become x / 255 with scenario.normalize=none"
            )
        if self.benchmark.info.head != "multi":
            experience = 0
        elif experience is None:
            last = self.benchmark.n_experiences - 1
            raise ValueError(
                f"the run is task-incremental: say whose head answers, experience=0 to {last}"
            )
        label = self.benchmark.test_stream[experience].task_label
        return self._answers(x.float(), torch.full((len(x),), label))

    def confusion_matrix(self, experience: int | None = None) -> Tensor:
        """How many test samples of each class (row) were taken for each (column).

        Args:
            experience: count its samples alone, from 0; None: those of all experiences.
        Raises: ValueError for a regression, or as ``model`` does.
        """
        info, stream = self.benchmark.info, self.benchmark.test_stream
        if info.function is not None:
            raise ValueError(f"{self.name} is a regression: it confuses no classes")
        matrix = torch.zeros(info.n_outputs, info.n_outputs, dtype=torch.int64)
        for each in stream if experience is None else [stream[experience]]:
            x, y, task_labels = as_tensors(each.dataset)
            pairs = y * info.n_outputs + self._answers(x, task_labels)
            matrix += torch.bincount(pairs, minlength=matrix.numel()).view_as(matrix)
        return matrix

    def _answers(self, x: Tensor, task_labels: Tensor) -> Tensor:
        is_regression = self.benchmark.info.function is not None
        answers = torch.empty(
            len(x), dtype=torch.float if is_regression else torch.int64
        )
        for rows, outputs in evaluate_in_chunks(self.model, x, task_labels):
            answers[rows] = outputs.flatten() if is_regression else outputs.argmax(1)
        return answers

    def plot_forgetting(self) -> Figure:
        """Accuracy on every experience against training iterations.

        Raises: ValueError if the run measured none (``evaluation.samples=0``).
        """
        label = self.run_config.label
        curves = reporting.Curves.from_measurements(self.metrics, label)
        return reporting.forgetting_curves([curves])

    def _repr_markdown_(self) -> str:
        return f"{self.name}\n\n{reporting.run_table(self.summary).markdown()}"

    def __repr__(self) -> str:
        told = f"<kancl.Run {self.name} {self.status}"
        for key, column in reporting.comparison.COLUMNS.items():
            if key in reporting.measures.METRICS and self.number(key) is not None:
                told += f", {column.name} {column.text(self.number(key))}"
        return "".join([told, *(f", {problem}" for problem in self.problems), ">"])


@dataclass(frozen=True, repr=False)
class Comparison:
    """Runs side by side, and what their differences allow to say.

    Args:
        runs: all of them, in the order asked for.
        verdicts: a model against its reference under one strategy, on one benchmark:
            ``compared`` and ``reference`` with their runs, ``differences`` by metric,
            paired over seeds, ``verdict`` and ``evidence`` in words.
    """

    runs: Sequence[Run]
    verdicts: Sequence[Verdict]

    @property
    def table(self) -> Table:
        """Means over seeds, and paired differences, as ``kancl compare`` prints them."""
        return reporting.comparison_table(self.runs)

    @property
    def differences(self) -> list[dict[str, Any]]:
        """A record, for ``pandas.DataFrame``, for each verdict and metric.

        ``mean``: compared - reference; ``low`` and ``high``: ends of its 95 % t-interval;
        ``p``: Student's paired test, after Holm; None where they can't be told.
        """
        return [
            {
                "strategy": verdict.strategy,
                "compared": verdict.compared.label,
                "reference": verdict.reference.label,
                "metric": metric,
                "mean": difference and difference.mean,
                "low": difference and difference.interval and difference.interval.low,
                "high": difference and difference.interval and difference.interval.high,
                "p": verdict.corrected.get(metric),
                "n_pairs": verdict.n_pairs,
            }
            for verdict in self.verdicts
            for metric, difference in verdict.differences.items()
        ]

    def report(self, folder: str | Path) -> Path:
        """Write the report of these runs, as ``kancl report`` does; returns its page."""
        return write_report(self.runs, folder).page

    def _repr_markdown_(self) -> str:
        return f"{self.table.markdown()}\n{headline(self.verdicts)}"

    def __repr__(self) -> str:
        return f"<kancl.Comparison of {len(self.runs)} runs: {headline(self.verdicts)}>"


def run(
    *overrides: str,
    log_dir: str | Path | None = LOG_DIR,
    quiet: bool = False,
    **keys: Any,
) -> Run:
    """Make a run, or read it back if it is completed already.

    Its network is kept, unless ``keep_model=False``. Runs of one process take turns,
    also those of several threads, which share torch's random generators.

    Args:
        overrides: as after ``kancl run``: ``"training.epochs=2"``.
        log_dir: where its folder goes; None: nowhere.
        quiet: show no progress.
        keys: the same as values of Python: ``scenario="split_mnist"``, ``model="kan"``,
            ``strategy="ewc"``, ``seed=3``, ``**{"model.hidden": [64]}``; they come last.
            A scenario may be a benchmark, of ``kancl.benchmarks`` or stock Avalanche.
    Raises: ValueError, before anything is trained, naming a key or value that can't be.
        KeyboardInterrupt for Ctrl-C or SIGTERM, once a checkpoint is written. A run that
        fails or diverges has it in ``status``.

    >>> kancl.run("strategy=ewc", "training.epochs=2", model="kan", seed=3).summary
    """
    with _place(log_dir) as place:
        words = [
            "keep_model=true",
            *overrides,
            *overrides_of({**keys, "log_dir": place}),
        ]
        (made,) = _made(read_request(words, sweep=False), quiet, log_dir is not None)
    return made


def compare(
    *overrides: str,
    log_dir: str | Path | None = LOG_DIR,
    quiet: bool = False,
    **keys: Any,
) -> Comparison:
    """Make the runs of a comparison that are missing: of a KAN and an MLP with as many
    parameters, unless said otherwise.

    Args:
        overrides: as after ``kancl compare``: ``"strategy=naive,ewc"``.
        log_dir, quiet: as in :func:`run`.
        keys: the same as values of Python; of ``scenario``, ``model``, ``strategy``,
            ``optimizer`` and ``seed`` a list or range of them is a sweep.
    Raises: as :func:`run` does.

    >>> kancl.compare(strategy=["naive", "ewc"], seed=range(5)).verdicts
    """
    with _place(log_dir) as place:
        words = ["model=kan,mlp", "match=params", *overrides]
        words += overrides_of({**keys, "log_dir": place}, sweep=True)
        made = _made(read_request(words, sweep=True), quiet, log_dir is not None)
    verdicts = [v for benchmark in benchmarks(made) for v in judge(benchmark)]
    return Comparison(made, verdicts)


def load(folder: str | Path) -> Run:
    """Read a run back from its folder, or by its name from ``logs``.

    Raises: ValueError if there is none, or what it holds can't be read.
    """
    place = folder_called(folder)
    if not (place / names.CONFIG).is_file():
        raise ValueError(
            f"there is no run in {folder}: a run folder, such as kancl.run(...).folder, "
            f"holds {names.CONFIG}, {names.METRICS} and {names.SUMMARY}"
        )
    read = Run(**vars(runs.read_run(place)))
    if read.status == "unreadable":
        raise ValueError(f"{folder} cannot be read: {read.problems[0]}")
    return read


def _made(request: Request, quiet: bool, keep: bool) -> list[Run]:
    """The runs of a request, made where they are missing.

    Args:
        keep: their folders stay; else their networks are read while they are there.
    """
    try:
        summaries = make_runs(request, console=Console(), quiet=quiet)
    except Interrupted as stopped:
        after = (
            "the same call goes on with what is missing" if keep else "nothing is kept"
        )
        raise KeyboardInterrupt(f"{stopped}; {after}") from stopped
    made = []
    for config, summary in zip(request.configs, summaries):
        if summary["status"] == "running":
            raise ConfigError(summary["error"])
        found = load(run_folder(config))
        if not keep:
            kept = (found.folder / names.MODEL).is_file()
            weights = found._read_weights() if kept else None
            folder = found.folder.relative_to(config.log_dir)
            found = replace(found, weights=weights, folder=folder)
        if config.scenario.name in HELD:
            vars(found)["benchmark"] = HELD[config.scenario.name]
        made.append(found)
    return made


@contextmanager
def _place(log_dir: str | Path | None) -> Iterator[str]:
    if log_dir is not None:
        yield str(log_dir)
        return
    with tempfile.TemporaryDirectory(prefix="kancl-") as folder:
        yield folder
