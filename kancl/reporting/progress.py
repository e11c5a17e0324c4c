"""One progress display per run, a few plain lines where the output is no terminal."""

import math
import time
from types import TracebackType
from typing import Any

from avalanche.training.plugins import SupervisedPlugin
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from kancl.metrics.score_matrix import (
    UndefinedMetric,
    average_rmse,
    average_seen_accuracy,
    forgetting,
    largest_rmse_increase,
    learning_accuracy,
)
from kancl.observe.recorder import RecorderPlugin
from kancl.runs.measurements import Measurement
from kancl.runs.names import CURVE

UPDATES_PER_SECOND = 8
WIDE = 120  # columns that everything takes, spelt out
SHORT = {"experience": "exp", "epoch": "ep", "accuracy": "acc", "forgetting": "forg"}
SHORT_TITLE = 9


class ProgressPlugin(SupervisedPlugin):
    """Show where a run is: experience, epoch, speed, time left, accuracy, forgetting.

    In a terminal: one line that is redrawn a few times per second, abbreviated below
    ``WIDE`` columns so that it fits 80. Everywhere: one line
    per experience, and per epoch where whole streams are evaluated after each. Where
    nothing can be forgotten, loss and learning rate take forgetting's place. Quiet:
    nothing. Use it around the run, behind the recorder among the
    plugins::

        with ProgressPlugin(recorder, title="kan-naive", total_iterations=940) as bar:
            ...  # strategies built with ``bar`` as plugin are trained

    The accuracy shown while training is that of the forgetting curve's samples on the
    experiences seen, and the forgetting is that curve's fall from its best so far; the
    line per experience gives those of the whole test sets.

    Args:
        total_iterations: of the whole run, None if unknown: then no time left.
        console: where to; standard output by default.
    """

    def __init__(
        self,
        recorder: RecorderPlugin,
        *,
        title: str,
        total_iterations: int | None = None,
        console: Console | None = None,
        quiet: bool = False,
    ) -> None:
        super().__init__()
        self._recorder = recorder
        self._title = title
        self._console = console or Console()
        self._quiet = quiet
        self._live: Progress | None = None
        self._total = total_iterations
        self._epoch = 0
        self._learning_rate = math.nan
        self._loss = math.nan
        self._next = 0.0
        self._started = time.perf_counter()
        self._accuracy: dict[int, float] = {}
        self._best: dict[int, float] = {}
        recorder.listeners.append(self._listen)
        self._wide = self._console.width >= WIDE
        if self._console.is_terminal and not quiet:
            self._live = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=18 if self._wide else 6),
                TextColumn("{task.fields[where]}"),
                _Speed(recorder, self._wide),
                TextColumn("{task.fields[score]}"),
                console=self._console,
                auto_refresh=False,
                transient=True,
            )
            if not self._wide and len(title) > SHORT_TITLE:
                title = f"{title[: SHORT_TITLE - 1]}…"
            self._task = self._live.add_task(
                title, total=self._total, where="", score=""
            )

    def __enter__(self) -> "ProgressPlugin":
        self._started = time.perf_counter()
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
        self._recorder.listeners.remove(self._listen)

    def catch_up(self, strategy: Any) -> None:
        """Show a run that goes on in its midst as if it had been seen so far."""
        for measurement in self._recorder.measurements:
            self._listen(measurement)
        self._epoch = strategy.clock.train_exp_epochs + 1

    def _listen(self, m: Measurement) -> None:
        if m.name == CURVE and m.experience is not None:
            self._accuracy[m.experience] = m.value
            if m.experience < self._recorder.n_seen(m.iteration):
                best = self._best.get(m.experience, 0.0)
                self._best[m.experience] = max(best, m.value)
        elif m.name == "batch_loss":
            self._loss = m.value

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self._epoch = 0
        self._draw(strategy)

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        self._epoch += 1
        self._learning_rate = strategy.optimizer.param_groups[0]["lr"]

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        evaluated = {
            m.name: m.value
            for m in self._recorder.latest()
            if m.name.endswith(("_loss", "_accuracy"))
            if m.experience is not None and not m.name.startswith(("batch_", "curve_"))
        }
        if not evaluated or self._recorder.n_experiences > 1 or self._quiet:
            return
        words = [f"{self._title}: epoch {self._epoch}/{strategy.train_epochs}"]
        for name, value in evaluated.items():
            stream, _, what = name.rpartition("_")
            shown = f"{value:.4f}" if what == "loss" else f"{100 * value:.2f} %"
            words.append(f"{stream} {what} {shown}")
        words.append(f"learning rate {self._learning_rate:.1e}")
        self._print(", ".join(words))

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        if self._live is not None and time.perf_counter() >= self._next:
            self._draw(strategy)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self._draw(strategy)

    def after_eval(self, strategy: Any, **kwargs: Any) -> None:
        recorder = self._recorder
        n = recorder.n_trained
        if n and not recorder.in_training and not self._quiet:
            self._say(n)

    def _draw(self, strategy: Any) -> None:
        if self._live is None:
            return
        recorder = self._recorder
        n = recorder.n_experiences
        if recorder.trains_jointly:
            where = f"all {n} experiences"
        else:
            now = min(recorder.n_trained + 1, n)
            where = f"experience {now}/{n}"
        if strategy.train_epochs > 1:
            where += f" epoch {max(self._epoch, 1)}/{strategy.train_epochs}"
        where, score = self._short(where), self._short(self._score())
        self._live.update(
            self._task, completed=recorder.iteration, where=where, score=score
        )
        self._live.refresh()
        self._next = time.perf_counter() + 1 / UPDATES_PER_SECOND

    def _short(self, text: str) -> str:
        """Fewer letters where the terminal is narrow: all has to fit 80 columns."""
        if not self._wide:
            for word, short in SHORT.items():
                text = text.replace(f"{word}s", short).replace(word, short)
        return text

    def _score(self) -> str:
        n_seen = self._recorder.n_seen()
        seen = [v for k, v in self._accuracy.items() if k < n_seen]
        if not seen:
            return ""
        score = f"accuracy {100 * sum(seen) / len(seen):.1f} %"
        falls = [self._best[k] - self._accuracy[k] for k in range(n_seen - 1)]
        if self._recorder.trains_jointly or self._recorder.n_experiences == 1:
            rate = f" lr {self._learning_rate:.1e}" if self._wide else ""
            return f"{score} loss {self._loss:.3f}{rate}"
        if falls:
            score += f" forgetting {100 * sum(falls) / len(falls):.1f} %"
        return score

    def _print(self, line: str) -> None:
        """A line that stays; a terminal breaks it between words, a log not at all."""
        soft = not self._console.is_terminal
        self._console.print(line, highlight=False, soft_wrap=soft)

    def _say(self, n: int) -> None:
        """The line of an experience, which stays."""
        recorder = self._recorder
        matrix = recorder.matrix
        part = matrix[: n + 1, :n]
        words = [f"{self._title}: after experience {n} of {recorder.n_experiences}"]
        if recorder.trains_jointly:
            words = [f"{self._title}: after all {n} experiences at once"]
        words.append(f"{recorder.iteration} iterations")
        for name, metric, arguments in [
            ("accuracy", average_seen_accuracy, (matrix, n)),
            ("learning accuracy", learning_accuracy, (part,)),
            ("forgetting", forgetting, (part,)),
            ("RMSE", average_rmse, (part,)),
            ("largest increase of an old one", largest_rmse_increase, (part,)),
        ]:
            of_errors = metric in (average_rmse, largest_rmse_increase)
            if of_errors == recorder.score.higher_is_better:
                continue
            try:
                value: float = metric(*arguments)  # type: ignore
            except UndefinedMetric:
                continue
            words.append(
                f"{name} {value:.2g}" if of_errors else f"{name} {100 * value:.1f} %"
            )
        words.append(f"{time.perf_counter() - self._started:.0f} s")
        self._print(", ".join(words))


class _Speed(ProgressColumn):
    """Iterations per second of training so far, and the time left at that pace."""

    max_refresh = 0.5

    def __init__(self, recorder: RecorderPlugin, wide: bool = True) -> None:
        super().__init__()
        self._recorder = recorder
        self._left = " left" if wide else ""

    def render(self, task: Task) -> Text:
        if not task.completed or not task.elapsed:
            return Text("")
        per_second = task.completed / task.elapsed
        text = f"{per_second:.0f} it/s"
        if task.total is not None:
            left = max(task.total - task.completed, 0) / per_second
            text += f", {duration(left)}{self._left}"
        return Text(text, style="dim")


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
