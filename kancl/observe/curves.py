"""Plugins that measure while a network learns: curves, off-grid shares, its function."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from avalanche.models import MultiTaskModule
from torch import Tensor, nn

from kancl.metrics.diagnosis import Samples
from kancl.models.inspect import eval_mode, off_grid_shares, spline_network
from kancl.observe.recorder import RecorderPlugin
from kancl.plugins.plugin import Plugin, Stage

UNSEEN_EVERY = 5
"""Every fifth regular point measures the experiences to come as well."""


class EpochEvaluationPlugin(Plugin):
    """Evaluate streams after every training epoch, for learning curves.

    Avalanche's ``eval_every=1`` does it before training too, which takes as long as an
    epoch when the training stream is among them.

    Args:
        streams: the training stream and one that is not trained on, say.
    """

    stage = Stage.OBSERVE
    transient = ("_streams",)

    def __init__(self, streams: Sequence[Any]) -> None:
        super().__init__()
        self._streams = streams

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        for stream in self._streams:
            strategy.eval(stream)


class ForgettingCurvePlugin(Plugin):
    """Measure the accuracy (RMSE) on EVERY experience while others are trained.

    At iteration 0, every ``every_iterations`` after an experience boundary, at the
    ``early_iterations`` (where forgetting happens) and at the end of each experience;
    those not yet trained at iteration 0, at the ends and at every fifth regular point.
    Each point is a ``curve_accuracy`` (``curve_rmse``) measurement; its time counts as
    evaluation. Trained parameters are the same to the bit without the plugin. A class
    that a growing head does not know yet scores 0; an experience whose own head does
    not exist yet is left out.

    Args:
        every_iterations: training iterations between points.
        samples_per_experience: spread evenly over each experience's rows (so over its
            classes); a point's standard error is at most 0.5 / sqrt of it.
        early_iterations: after the start of an experience, to measure at as well.
        batch_size: most samples in one forward pass; None: 256 on a CPU, the most that
            an MLP's caches hold, everything at once on a GPU.
        replaced_weights: those at the end of an epoch may give way to the best epoch's:
            no point is measured there then, but for the end of the experience.
    """

    stage = Stage.OBSERVE
    state = ("_last", "_n_measured", "_in_experience")
    transient = ("_sizes", "_x", "_y", "_task_labels")

    def __init__(
        self,
        recorder: RecorderPlugin,
        test_stream: Iterable[Any],
        every_iterations: int = 50,
        samples_per_experience: int = 200,
        *,
        early_iterations: Sequence[int] = (2, 5, 10, 20),
        batch_size: int | None = None,
        replaced_weights: bool = False,
    ) -> None:
        super().__init__()
        for name, value in {
            "every_iterations": every_iterations,
            "batch_size": batch_size,
        }.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.recorder = recorder
        self.every_iterations = every_iterations
        self.early_iterations = frozenset(early_iterations)
        self.batch_size = batch_size
        self.replaced_weights = replaced_weights
        parts = Samples(test_stream, samples_per_experience).parts
        if not parts:
            raise ValueError("test_stream holds no experience to measure")
        self._sizes = [len(y) for _, y, _ in parts]
        self._x, self._y, self._task_labels = map(torch.cat, zip(*parts))
        self._last: int | None = None
        self._n_measured = 0  # experiences, at the iteration of the last point
        self._in_experience = 0

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
        n_batches = len(strategy.dataloader) if self.replaced_weights else 0
        if strategy.clock.train_epoch_iterations + 1 == n_batches:
            return
        points, rest = divmod(self._in_experience, self.every_iterations)
        if rest == 0 and points % UNSEEN_EVERY == 0:
            self._measure(strategy)
        elif rest == 0 or self._in_experience in self.early_iterations:
            self._measure(strategy, self.recorder.n_seen())

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self._measure(strategy)

    def _measure(self, strategy: Any, n_experiences: int | None = None) -> None:
        """Add a point of the first experiences (None: all) that have none here yet."""
        recorder = self.recorder
        start = self._n_measured if self._last == recorder.iteration else 0
        stop = len(self._sizes) if n_experiences is None else n_experiences
        if start >= stop:
            return
        self._last, self._n_measured = recorder.iteration, stop
        for name in ("_x", "_y", "_task_labels"):
            setattr(self, name, getattr(self, name).to(strategy.device))
        with recorder.evaluating(strategy.device), eval_mode(strategy.model):
            scores = self._scores(strategy.model, range(start, stop))
        for experience, value in scores.items():
            recorder.add(f"curve_{recorder.score.name}", value, experience)

    @torch.no_grad()
    def _scores(self, model: nn.Module, experiences: range) -> dict[int, float]:
        score = self.recorder.score
        if isinstance(model, MultiTaskModule):
            each = self._by_head(model, experiences)
        else:
            sizes = self._sizes[experiences.start : experiences.stop]
            first = sum(self._sizes[: experiences.start])
            rows = slice(first, first + sum(sizes))
            x, y = self._x[rows], self._y[rows]
            size = self.batch_size or (256 if x.device.type == "cpu" else len(x))
            outputs = torch.cat([model(part) for part in x.split(size)])
            each = dict(zip(experiences, score.per_sample(outputs, y).split(sizes)))
        if not each:
            return {}
        means = torch.stack([samples.float().mean() for samples in each.values()])
        # the one wait for the device
        return dict(zip(each, score.reduce(means).tolist()))

    def _by_head(self, model: MultiTaskModule, experiences: range) -> dict[int, Tensor]:
        each = {}
        xs, labels = (v.split(self._sizes) for v in (self._x, self._task_labels))
        for k in experiences:
            try:
                outputs = model(xs[k], labels[k])
                each[k] = self.recorder.score.per_sample(outputs, self.targets[k])
            except KeyError:  # no head yet; one of an experience seen must be there
                if k < self.recorder.n_seen():
                    raise
        return each


OFF_GRID = "off_grid_share_layer_"
"""Begin of the measurements' names; layers count from 1."""


class OffGridPlugin(Plugin):
    """Record, per layer, the share of input values that lie outside the layer's grid.

    There a plain spline is 0 and learns nothing. Several heads count as one layer, the
    last. Measured before training and after each experience, on samples of all
    experiences; not for an MLP. Put it behind the recorder.

    Args:
        samples_per_experience: spread evenly over each experience's rows.
    """

    stage = Stage.OBSERVE
    state = ("shares",)
    transient = ("_x", "_recorder")

    def __init__(
        self,
        recorder: RecorderPlugin,
        test_stream: Iterable[Any],
        samples_per_experience: int = 50,
    ) -> None:
        super().__init__()
        self.shares: list[float] = []
        """The latest, one per layer."""
        self._recorder = recorder
        parts = Samples(test_stream, samples_per_experience).parts
        self._x = torch.cat([x for x, _, _ in parts])

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        if not self.shares:
            self._measure(strategy)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self._measure(strategy)

    def _measure(self, strategy: Any) -> None:
        if spline_network(strategy.model) is None:
            return
        with self._recorder.evaluating(strategy.device):
            self._x = self._x.to(strategy.device)
            self.shares = off_grid_shares(strategy.model, self._x.flatten(1))
        for layer, share in enumerate(self.shares, start=1):
            self._recorder.add(f"{OFF_GRID}{layer}", share)


FINENESS = {1: 401, 2: 81}
"""By dimensions, points along each of them."""


class LearnedFunctionPlugin(Plugin):
    """Keep the network's function, of one or two inputs, after each experience.

    Args:
        truth: what is to be learned, ``(n, n_inputs)`` -> ``(n,)``.
    Raises: ValueError for more than two inputs.
    """

    stage = Stage.OBSERVE
    state = ("functions",)
    transient = ("points", "target")

    def __init__(
        self,
        recorder: RecorderPlugin,
        truth: Callable[[Tensor], Tensor],
        n_inputs: int,
        input_range: tuple[float, float],
    ) -> None:
        super().__init__()
        if n_inputs not in FINENESS:
            raise ValueError(f"functions of 1 or 2 inputs can be drawn, not {n_inputs}")
        self.recorder = recorder
        axis = torch.linspace(*input_range, FINENESS[n_inputs])
        self.points = torch.cartesian_prod(*[axis] * n_inputs).view(-1, n_inputs)
        """``(n, n_inputs)``, the last one running fastest."""
        self.target = truth(self.points)
        self.functions: list[Tensor] = []
        """After each experience, ``(n,)``."""

    @torch.no_grad()
    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        with self.recorder.evaluating(strategy.device):
            outputs = strategy.model(self.points.to(strategy.device))
            self.functions.append(outputs.squeeze(1).cpu())
