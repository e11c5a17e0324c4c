"""The forgetting curve: accuracy on every experience while others are learned."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from avalanche.models import MultiTaskModule
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor, nn

from kancl.data.rows import as_tensors
from kancl.observe.recorder import RecorderPlugin

UNSEEN_EVERY = 5
"""Every fifth regular point measures the experiences to come as well."""


class ForgettingCurvePlugin(SupervisedPlugin):
    """Measure the accuracy (RMSE) on EVERY experience while others are trained.

    At iteration 0, every ``every_iterations`` after a border, at the few iterations
    ``after_border`` (where forgetting happens) and at the end of each experience. Not
    yet trained experiences have nothing to forget: they are measured at iteration 0, at
    the ends and at every fifth regular point; whoever draws them tells them apart by
    ``recorder.borders``. Each point is a ``curve_accuracy`` (``curve_rmse``)
    measurement of the recorder; its time counts as evaluation.

    The samples, spread evenly over each experience's rows (so over its classes), stay
    on the device. Nothing random is drawn and modules get their training mode back, so
    the trained parameters are the same to the bit with and without the plugin. A class
    that a growing head does not know yet scores 0; an experience whose own head
    does not exist yet is left out.

    Put it behind the recorder.

    Args:
        test_stream: experiences with ``dataset``, in the order of their index.
        every_iterations: training iterations between points.
        samples_per_experience: rows measured of each experience; a point's standard
            error is at most 0.5 / sqrt of it: 0.035 for 200.
        after_border: iterations after the start of an experience at which to measure
            as well.
        batch_size: most samples in one forward pass; None: 256 on a CPU, the most that
            an MLP's caches hold, everything at once on a GPU.
    """

    def __init__(
        self,
        recorder: RecorderPlugin,
        test_stream: Iterable[Any],
        every_iterations: int = 50,
        samples_per_experience: int = 200,
        *,
        after_border: Sequence[int] = (2, 5, 10, 20),
        batch_size: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in [
            ("every_iterations", every_iterations),
            ("samples_per_experience", samples_per_experience),
            ("batch_size", batch_size),
        ]:
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.recorder = recorder
        self.seconds = 0.0
        self._every = every_iterations
        self._after_border = frozenset(after_border)
        self._batch_size = batch_size
        with torch.random.fork_rng(devices=[]):  # a stock transform may draw
            parts = [as_tensors(e.dataset, samples_per_experience) for e in test_stream]
        if not parts:
            raise ValueError("test_stream holds no experience to measure")
        self._sizes = [len(y) for _, y, _ in parts]
        self._x = torch.cat([x for x, _, _ in parts])
        self._y = torch.cat([y for _, y, _ in parts])
        self._task_labels = torch.cat([t for _, _, t in parts])
        self._last: int | None = None
        self._n_measured = 0  # experiences, at the iteration of the last point
        self._in_experience = 0

    @property
    def n_samples(self) -> int:
        """Images that one point of all curves takes."""
        return len(self._y)

    @property
    def targets(self) -> tuple[Tensor, ...]:
        """The targets measured, per experience."""
        return self._y.split(self._sizes)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self._in_experience = 0
        if self._last is None:
            self._measure(strategy)

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self._in_experience += 1
        points, rest = divmod(self._in_experience, self._every)
        if rest == 0 and points % UNSEEN_EVERY == 0:
            self._measure(strategy)
        elif rest == 0 or self._in_experience in self._after_border:
            self._measure(strategy, self.recorder.n_seen())

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self._measure(strategy)

    def _measure(self, strategy: Any, n_experiences: int | None = None) -> None:
        """A point of the first experiences (all if None) that have none here yet."""
        recorder = self.recorder
        start = self._n_measured if self._last == recorder.iteration else 0
        stop = len(self._sizes) if n_experiences is None else n_experiences
        if start >= stop:
            return
        self._last, self._n_measured = recorder.iteration, stop
        self._to(strategy.device)
        before = recorder.eval_seconds
        with recorder.evaluating(strategy.device), in_eval_mode(strategy.model):
            scores = self._scores(strategy.model, range(start, stop))
        self.seconds += recorder.eval_seconds - before
        for experience, value in scores.items():
            recorder.add(f"curve_{recorder.score.name}", value, experience)

    def _to(self, device: torch.device) -> None:
        self._x, self._y = self._x.to(device), self._y.to(device)
        self._task_labels = self._task_labels.to(device)

    @torch.no_grad()
    def _scores(self, model: nn.Module, experiences: range) -> dict[int, float]:
        score = self.recorder.score
        if isinstance(model, MultiTaskModule):
            found = self._by_head(model, experiences)
        else:
            sizes = self._sizes[experiences.start : experiences.stop]
            first = sum(self._sizes[: experiences.start])
            rows = slice(first, first + sum(sizes))
            x, y = self._x[rows], self._y[rows]
            size = self._batch_size or (256 if x.device.type == "cpu" else len(x))
            outputs = [model(part) for part in x.split(size)]
            each = score.per_sample(torch.cat(outputs), y)
            found = dict(zip(experiences, each.split(sizes)))
        if not found:
            return {}
        means = torch.stack([each.float().mean() for each in found.values()])
        values = score.reduce(means).tolist()  # the one wait for the device
        return dict(zip(found, values))

    def _by_head(self, model: MultiTaskModule, experiences: range) -> dict[int, Tensor]:
        found = {}
        score = self.recorder.score
        n_seen = self.recorder.n_seen()
        xs, ys = self._x.split(self._sizes), self.targets
        labels = self._task_labels.split(self._sizes)
        for k in experiences:
            try:
                found[k] = score.per_sample(model(xs[k], labels[k]), ys[k])
            except KeyError:  # no head yet; one of an experience seen must be there
                if k < n_seen:
                    raise
        return found


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; each module gets its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
