"""One progress display per run, a few plain lines where the output is no terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from avalanche.training.plugins import SupervisedPlugin
from rich.console import Console
from rich.progress import BarColumn, Progress

from kancl.metrics.score_matrix import Score
from kancl.observe.recorder import RecorderPlugin
from kancl.reporting.measures import so_far
from kancl.runs.measurements import Measurement

UPDATES_PER_SECOND = 8
WIDE = 120
"""Columns into which everything fits spelled out; below, words are abbreviated."""
SHORT = {"experience": "exp", "epoch": "ep", "accuracy": "acc", "forgetting": "forg"}
SHORT_TITLE, SHORT_RUN = 9, 22
LEAST_DONE = 0.1
"""Share of a run that is done before the time that all runs take is told."""


class Place:
    """Which of several runs is being made, and how long all of them still take."""

    def __init__(self, n_runs: int) -> None:
        self.n_runs, self.n_begun = n_runs, 0
        self._started = time.perf_counter()

    def text(self, share: float = 1.0) -> str:
        """``run 4 of 12, 2 min left``.

        Args:
            share: of the run that was begun last, what is done of it.
        """
        done = self.n_begun - 1 + share
        text = f"run {self.n_begun} of {self.n_runs}"
        if done < LEAST_DONE or done >= self.n_runs:
            return text
        each = (time.perf_counter() - self._started) / done
        return f"{text}, {duration(each * (self.n_runs - done))} left"


class ProgressPlugin(SupervisedPlugin):
    """Show where a run is: experience, epoch, speed, time left, accuracy, forgetting (or,
    where nothing can be forgotten, loss and learning rate).

    In a terminal, or a notebook with ipywidgets: one line, redrawn, with scores of the
    forgetting curve's samples. Everywhere: a line per experience, with those of the whole
    test sets (not of one of several runs), and per epoch where they are evaluated. Use it
    behind the recorder::

        with ProgressPlugin(recorder, title="kan-naive", total_iterations=940) as bar:
            ...  # strategies built with ``bar`` as plugin are trained
    """

    def __init__(
        self,
        recorder: RecorderPlugin,
        *,
        title: str,
        total_iterations: int | None = None,
        console: Console | None = None,
        quiet: bool = False,
        place: Place | None = None,
    ) -> None:
        super().__init__()
        self._recorder, self._title, self._quiet = recorder, title, quiet
        self._place = place
        self._console = console or Console()
        self._epoch = 0
        self._learning_rate = self._loss = math.nan
        self._next = 0.0
        self._started = time.perf_counter()
        self._first: tuple[int, float] | None = None
        self._scores: dict[int, float] = {}
        self._best: dict[int, float] = {}
        recorder.listeners.append(self._listen)
        self._wide = self._console.width >= WIDE
        self._live = Progress(
            "[bold]{task.description}",
            BarColumn(bar_width=18 if self._wide else 6),
            "{task.fields[where]}",
            "[dim]{task.fields[speed]}",
            "{task.fields[score]}",
            console=self._console,
            auto_refresh=False,
            transient=True,
            disable=quiet
            or not (self._console.is_terminal or _has_widgets(self._console)),
        )
        if not self._wide:
            most = SHORT_TITLE if place is None else SHORT_RUN
            if place is None and len(title) > most:  # one run needs no seed beside it
                title = title.partition(" seed ")[0]
            title = title if len(title) <= most else f"{title[: most - 1]}…"
        self._short_title = title
        fields: Any = dict.fromkeys(["where", "speed", "score"], "")
        self._task = self._live.add_task(title, total=total_iterations, **fields)

    def __enter__(self) -> ProgressPlugin:
        self._started = time.perf_counter()
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if not self._live.disable:  # else it would print an empty line
            self._live.stop()
        self._recorder.listeners.remove(self._listen)

    def catch_up(self, strategy: Any) -> None:
        for measurement in self._recorder.measurements:
            self._listen(measurement)
        self._epoch = strategy.clock.train_exp_epochs + 1

    def _listen(self, m: Measurement) -> None:
        score = self._recorder.score
        if m.name == "batch_loss":
            self._loss = m.value
        elif m.name == f"curve_{score.name}" and (k := m.experience) is not None:
            self._scores[k] = m.value
            if k < self._recorder.n_seen(m.iteration):
                better = max if score.higher_is_better else min
                self._best[k] = better(self._best.get(k, m.value), m.value)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self._epoch = 0
        self._draw(strategy)

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        self._epoch += 1
        self._learning_rate = strategy.optimizer.param_groups[0]["lr"]

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        if self._recorder.n_experiences > 1:
            return
        words = [f"{self._title}: epoch {self._epoch}/{strategy.train_epochs}"]
        for m in self._recorder.latest():
            stream, _, what = m.name.rpartition("_")
            shown = {"loss": f"{m.value:.4f}", "accuracy": f"{100 * m.value:.2f} %"}
            whole = m.experience is not None and stream not in ("batch", "curve")
            if whole and what in shown:
                words.append(f"{stream} {what} {shown[what]}")
        if len(words) > 1:
            self._say(*words, f"learning rate {self._learning_rate:.1e}")

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        if self._first is None:  # kernels are compiled in it
            self._first = self._recorder.iteration, time.perf_counter()
        if time.perf_counter() >= self._next:
            self._draw(strategy)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self._draw(strategy)

    def after_eval(self, strategy: Any, **kwargs: Any) -> None:
        recorder, n = self._recorder, self._recorder.n_experiences_done
        is_held_out = strategy.experience.origin_stream.name == "validation"
        several = self._place is not None
        if recorder.in_training or not n or is_held_out or several:
            return
        where = f"after experience {n} of {recorder.n_experiences}"
        if recorder.trains_jointly:
            where = f"after all {n} experiences at once"
        told = [
            f"{name} {_number(value, recorder.score)}"
            for _, name, value in so_far(recorder.matrix, n, recorder.score)
        ]
        if self._console.is_terminal and not self._wide:
            scores = ", ".join(told).replace("learning accuracy", "learning")
            return self._say(f"{where}: {scores}")
        words = [f"{self._title}: {where}", f"{recorder.iteration} iterations", *told]
        self._say(*words, f"{time.perf_counter() - self._started:.0f} s")

    def _say(self, *words: str) -> None:
        """A line that stays; a terminal breaks it between words, a log not at all."""
        if not self._quiet:
            soft = not self._console.is_terminal
            self._console.print(", ".join(words), highlight=False, soft_wrap=soft)

    def _draw(self, strategy: Any) -> None:
        if self._live.disable:
            return
        recorder, n = self._recorder, self._recorder.n_experiences
        where = f"experience {min(recorder.n_experiences_done + 1, n)}/{n}"
        if recorder.trains_jointly:
            where = f"all {n} experiences"
        if strategy.train_epochs > 1:
            where += f" epoch {max(self._epoch, 1)}/{strategy.train_epochs}"
        title, speed, score = self._short_title, self._speed(), self._score()
        if self._place is not None:
            (task,) = self._live.tasks
            share = recorder.iteration / task.total if task.total else 0.0
            where, speed = f"{title} {where}", ""
            title, score = self._place.text(share), score.partition(" forgetting")[0]
        self._live.update(
            self._task,
            completed=recorder.iteration,
            description=title,
            where=self._short(where),
            speed=speed,
            score=self._short(score),
        )
        self._live.refresh()
        self._next = time.perf_counter() + 1 / UPDATES_PER_SECOND

    def _short(self, text: str) -> str:
        """Fewer letters where the terminal is narrow: all has to fit 80 columns."""
        if not self._wide:
            for word, short in SHORT.items():
                text = text.replace(f"{word}s", short).replace(word, short)
        return text

    def _speed(self) -> str:
        """Iterations per second since the first, and the time left at that pace."""
        (task,), done = self._live.tasks, self._recorder.iteration
        since, started = self._first or (done, 0.0)
        if done <= since:
            return ""
        each = (time.perf_counter() - started) / (done - since)
        speed = f"{1 / each:.0f} it/s"
        if task.total is not None:
            left = duration(max(task.total - done, 0) * each)
            speed += f", {left}{' left' if self._wide else ''}"
        return speed

    def _score(self) -> str:
        recorder, score = self._recorder, self._recorder.score
        n_seen = recorder.n_seen()
        seen = [v for k, v in self._scores.items() if k < n_seen]
        if not seen:
            return ""
        text = f"{score.title} {_number(sum(seen) / len(seen), score)}"
        if recorder.trains_jointly or recorder.n_experiences == 1:
            rate = f" lr {self._learning_rate:.1e}" if self._wide else ""
            return f"{text} loss {self._loss:.3f}{rate}"
        if falls := [abs(self._best[k] - self._scores[k]) for k in range(n_seen - 1)]:
            text += f" forgetting {_number(sum(falls) / len(falls), score)}"
        return text


def finished(place: Place, title: str, summary: Mapping[str, Any], width: int) -> str:
    """A line that says how one of several runs ended, whole in a terminal of ``width``."""
    words = [title]
    if summary["status"] != "completed":
        words.append(str(summary["status"]))
    elif summary.get("average_rmse") is not None:
        words.append(f"RMSE {summary['average_rmse']:.2g}")
    for key, word in (("average_accuracy", "accuracy"), ("forgetting", "forgetting")):
        if summary["status"] == "completed" and summary.get(key) is not None:
            words.append(f"{word} {100 * summary[key]:.1f} %")
    if (too_many := len(f"{place.text()}: {', '.join(words)}") - width) > 0:
        words[0] = f"{title[: max(len(title) - too_many - 1, 1)]}…"
    return f"{place.text()}: {', '.join(words)}"


def _has_widgets(console: Console) -> bool:
    """Whether rich can redraw in a notebook; it warns at each attempt if not."""
    return console.is_jupyter and find_spec("ipywidgets") is not None


def _number(value: float, score: Score) -> str:
    return f"{100 * value:.1f} %" if score.higher_is_better else f"{value:.2g}"


def duration(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.0f} min"
