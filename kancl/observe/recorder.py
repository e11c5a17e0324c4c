"""The recorder: every number of a run, in one list, without waiting for the GPU."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from kancl.metrics.score_matrix import ACCURACY, Score, empty_matrix, summarise
from kancl.plugins.plugin import Diverged, Plugin, Stage
from kancl.runs.measurements import Measurement


class RecorderPlugin(Plugin):
    """Collect a run's measurements, accuracy matrix and times.

    Rows in ``measurements`` (of a regression, with ``rmse`` for ``accuracy``):

    - ``batch_loss``, ``batch_accuracy``: mean over the training batches since the last
      such row, per ``every_iterations`` and at the end of an experience (the loss holds
      the strategy's penalties).
    - ``<stream>_accuracy``, ``<stream>_loss`` for each experience of a stream
      evaluated by ``strategy.eval(stream)``; and whatever others ``add``.

    ``matrix`` (row r: after r experiences) is filled by evaluations of
    ``matrix_stream`` outside of training. A GPU is waited for once per row.

    ``last_evaluation``: means over the experiences evaluated last, each of them
    (``test_accuracy/experience_1``) and, of the matrix so far, the metrics that are
    defined: what ``strategy.eval`` returns.

    Args:
        n_experiences: columns of the matrix; a longer stream adds to them.
        every_iterations: training iterations per ``batch_*`` row.
        trains_jointly: the strategy trains once, on all experiences together.
        matrix_stream: name of the stream that fills the matrix.
        score: what the matrix holds.
    Raises: Diverged in training, at most ``every_iterations`` after the loss became
        NaN or infinite, or in the evaluation after it.
    """

    stage = Stage.RECORD
    state = tuple(
        "matrix measurements boundaries iteration n_experiences_done train_seconds "
        "eval_seconds in_training _losses _outputs _evaluated _eval_sums _n_evaluated".split()
    )
    transient = ("listeners", "last_evaluation", "_matrix_stream", "_every", "_since")

    def __init__(
        self,
        n_experiences: int = 1,
        every_iterations: int = 50,
        *,
        trains_jointly: bool = False,
        matrix_stream: str = "test",
        score: Score = ACCURACY,
    ) -> None:
        super().__init__()
        if every_iterations < 1:
            got = f"got {every_iterations}"
            raise ValueError(f"every_iterations must be at least 1, {got}")
        self.matrix = empty_matrix(n_experiences)
        self.measurements: list[Measurement] = []
        self.listeners: list[Callable[[Measurement], None]] = []
        """Other parts subscribe by appending to it."""
        self.last_evaluation: dict[str, float] = {}
        self.boundaries: list[int] = []
        """Iterations at which each experience trained so far ended."""
        self.iteration = 0
        self.n_experiences_done = 0
        """Rows of the matrix behind us: experiences trained, N once trained jointly."""
        self.train_seconds = 0.0
        self.eval_seconds = 0.0
        self.trains_jointly = trains_jointly
        self.score = score
        self._matrix_stream = matrix_stream
        self._every = every_iterations
        self.in_training = False
        """Whether ``strategy.train`` is under way, also while it evaluates."""
        self._since = time.perf_counter()
        self._losses: list[Tensor] = []  # on the device, since the last row
        self._outputs: list[tuple[Tensor, Tensor]] = []  # with their targets
        self._evaluated: list[tuple[str, int, Tensor, int]] = []
        self._eval_sums = torch.zeros(2, dtype=torch.float64)
        self._n_evaluated = 0

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.measurements = [Measurement(*row) for row in self.measurements]

    @property
    def n_experiences(self) -> int:
        return self.matrix.shape[1]

    def n_seen(self, iteration: int | None = None) -> int:
        """Experiences begun by an iteration (now by default): 0 before training."""
        at = self.iteration if iteration is None else iteration
        if at > 0 and self.trains_jointly:
            return self.n_experiences
        return sum(boundary < at for boundary in self.boundaries) + 1 if at else 0

    def add(self, name: str, value: float, experience: int | None = None) -> None:
        """Append a measurement at the current iteration and tell the listeners."""
        row = Measurement(self.iteration, experience, name, float(value))
        self.measurements.append(row)
        for listener in self.listeners:
            listener(row)

    def series(
        self, name: str, experience: int | None = None
    ) -> tuple[list[int], list[float]]:
        """Iterations and values of one name (and experience)."""
        what = name, experience
        rows = [m for m in self.measurements if (m.name, m.experience) == what]
        return [m.iteration for m in rows], [m.value for m in rows]

    def latest(self) -> list[Measurement]:
        """What was measured at the current iteration."""
        return [m for m in self.measurements if m.iteration == self.iteration]

    @contextmanager
    def evaluating(self, device: torch.device) -> Iterator[None]:
        """Count the time inside as evaluation, also in the midst of training."""
        self.settle(device)
        try:
            yield
        finally:
            self.eval_seconds += self._lap(device)

    def settle(self, device: torch.device, count: bool = True) -> None:
        """Count the time up to now, or leave it out, so that nothing is running."""
        seconds = self._lap(device)
        if self.in_training and count:
            self.train_seconds += seconds

    def _lap(self, device: torch.device) -> float:
        """Seconds since the last lap, the device's queue emptied first."""
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize(device)
        before, self._since = self._since, time.perf_counter()
        return self._since - before

    # training

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        self.in_training = True
        self._lap(strategy.device)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self._make_room(strategy.experience)

    def _make_room(self, experience: Any) -> None:
        n, before = len(experience.origin_stream), self.matrix
        if n > self.n_experiences:
            self.matrix = empty_matrix(n)
            self.matrix[: before.shape[0], : before.shape[1]] = before

    def after_training(self, strategy: Any, **kwargs: Any) -> None:
        self.train_seconds += self._lap(strategy.device)
        self.in_training = False

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.iteration += 1
        self._losses.append(strategy.loss.detach())
        output, target = strategy.mb_output.detach(), strategy.mb_y
        if output.shape[:1] == target.shape[:1]:
            self._outputs.append((output, target))
        if len(self._losses) >= self._every:
            self._write_batches(strategy)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self._write_batches(strategy)
        self.boundaries.append(self.iteration)
        self.n_experiences_done += self.n_experiences if self.trains_jointly else 1

    def _write_batches(self, strategy: Any) -> None:
        if not self._losses:
            return
        # losses are (1,) each
        means = [torch.cat([loss.flatten() for loss in self._losses]).double().mean()]
        if self._outputs:
            means.append(self.score.reduce(torch.cat(self._scores()).double().mean()))
        self._losses, self._outputs = [], []
        loss, *score = torch.stack(means).tolist()  # the one wait for the device
        experience = None if self.trains_jointly else _index(strategy.experience)
        self.add("batch_loss", loss, experience)
        for value in score:
            self.add(f"batch_{self.score.name}", value, experience)
        _check_finite(loss, f"training loss by iteration {self.iteration}")

    def _scores(self) -> list[Tensor]:
        """Scores of all samples since the last row; heads may differ in their outputs."""
        alike = groupby(self._outputs, lambda pair: pair[0].shape[1:])
        batches = [map(torch.cat, zip(*pairs)) for _, pairs in alike]
        return [self.score.per_sample(*batch) for batch in batches]

    # evaluation

    def before_eval(self, strategy: Any, **kwargs: Any) -> None:
        self.settle(strategy.device)
        self._evaluated = []

    def before_eval_exp(self, strategy: Any, **kwargs: Any) -> None:
        self._make_room(strategy.experience)
        self._eval_sums = torch.zeros(2, dtype=torch.float64, device=strategy.device)
        self._n_evaluated = 0

    def after_eval_iteration(self, strategy: Any, **kwargs: Any) -> None:
        n = len(strategy.mb_y)
        scores = self.score.per_sample(strategy.mb_output, strategy.mb_y)
        self._eval_sums += torch.stack([scores.sum(), strategy.loss.sum() * n])
        self._n_evaluated += n

    def after_eval_exp(self, strategy: Any, **kwargs: Any) -> None:
        stream, k = strategy.experience.origin_stream.name, _index(strategy.experience)
        self._evaluated.append((stream, k, self._eval_sums, self._n_evaluated))

    def after_eval(self, strategy: Any, **kwargs: Any) -> None:
        evaluated = [e for e in self._evaluated if e[3]]
        values: list[list[float]] = []
        if evaluated:
            means = torch.stack([sums / n for *_, sums, n in evaluated])
            means[:, 0] = self.score.reduce(means[:, 0])
            values = means.tolist()
        self.eval_seconds += self._lap(strategy.device)
        each: dict[str, dict[str, float]] = {}
        for (stream, experience, *_), (score, loss) in zip(evaluated, values):
            for name, value in ((self.score.name, score), ("loss", loss)):
                of_name = each.setdefault(f"{stream}_{name}", {})
                of_name[f"{stream}_{name}/experience_{experience + 1}"] = value
            if stream == self._matrix_stream and not self.in_training:
                self.matrix[self.n_experiences_done, experience] = score
            self.add(f"{stream}_{self.score.name}", score, experience)
            self.add(f"{stream}_loss", loss, experience)
            _check_finite(loss, f"{stream} loss on experience {experience + 1}")
        self.last_evaluation = {k: sum(v.values()) / len(v) for k, v in each.items()}
        for of_name in each.values():
            self.last_evaluation |= of_name
        if (n := self.n_experiences_done) and not self.in_training:
            metrics = summarise(self.matrix[: n + 1, :n], self.score)
            numbers = {k: v for k, v in metrics.items() if isinstance(v, float)}
            self.last_evaluation |= numbers


def _index(experience: Any) -> int:
    return int(experience.current_experience)


def _check_finite(value: float, what: str) -> None:
    if not math.isfinite(value):
        raise Diverged(
            f"the {what} is {value}: training diverged; a smaller optimizer.lr or a "
            "smaller penalty strength of the strategy is the usual way out"
        )
