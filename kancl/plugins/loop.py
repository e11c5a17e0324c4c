"""The training loop itself: batches, optimizer, evaluation, rate, first and best weights."""

import inspect
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from avalanche.training.plugins import AGEMPlugin
from avalanche.training.supervised import Cumulative, JointTraining
from avalanche.training.utils import cycle
from torch import Tensor

from kancl.config.values import Positive, PositiveShare
from kancl.data.loading import whole_batches
from kancl.data.rows import as_tensors
from kancl.metrics.score_matrix import ACCURACY
from kancl.models.inspect import evaluate_in_chunks
from kancl.plugins.plugin import Needs, Plugin, Record, Stage


class QuietEvaluationPlugin(Plugin):
    """Put torch's random state back after each evaluation.

    Every iterator over a torch DataLoader draws a seed, an evaluating one too: without
    this, how often a run is evaluated decides its weights.
    """

    stage = Stage.EVALUATION_GUARD
    transient = ("_state",)

    def before_eval(self, strategy: Any, **kwargs: Any) -> None:
        self._state = torch.random.get_rng_state()

    def after_eval(self, strategy: Any, **kwargs: Any) -> None:
        torch.random.set_rng_state(self._state)


class OptimizerStatePlugin(Plugin):
    """Forget the optimizer's moments at the start of each experience, or keep them.

    Here it is a property of the strategy, in Avalanche of each call of ``train``. Kept
    state survives a growing head: parameters that join have none yet.

    Args:
        reset: True empties ``optimizer.state`` before each experience.
    """

    stage = Stage.OPTIMIZER

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        self.reset = reset

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        if self.reset:
            strategy.optimizer.state = defaultdict(dict)


class TensorLoadingPlugin(Plugin):
    """Swap a strategy's loaders for ones that fetch a batch at once.

    Training, evaluation and the memories of A-GEM, DER and ER-ACE are served. Over kancl's benchmarks batches
    are the same as Avalanche's, to the bit; a loader over other data is left as it is.

    Args:
        iterations: train for exactly so many full batches per experience, reshuffled as
            often as needed, instead of one pass over the data (``train_epochs=1``).
    Raises: ValueError if ``iterations`` is below 1 or meets ``train_epochs`` above 1.
    """

    stage = Stage.LOADER

    def __init__(self, iterations: int | None = None) -> None:
        super().__init__()
        if iterations is not None and iterations < 1:
            raise ValueError(f"iterations={iterations} must be at least 1")
        self.iterations = iterations

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        if self.iterations is not None and strategy.train_epochs != 1:
            raise ValueError(
                f"iterations={self.iterations} counts the batches of an experience, but "
                f"train_epochs={strategy.train_epochs}: set one of them only"
            )

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        for plugin in strategy.plugins:
            if isinstance(plugin, AGEMPlugin) and plugin.buffer_dataloader is not None:
                plugin.buffer_dataloader = whole_batches(plugin.buffer_dataloader)
                plugin.buffer_dliter = iter(plugin.buffer_dataloader)
        replayed = getattr(
            strategy, "replay_loader", None
        )  # of DER and ER-ACE: endless
        if inspect.isgenerator(replayed) and replayed.gi_code is cycle.__code__:
            if inspect.getgeneratorstate(replayed) == inspect.GEN_CREATED:
                loader = inspect.getgeneratorlocals(replayed)["loader"]
                strategy.replay_loader = cycle(whole_batches(loader))
        self.before_training_epoch(strategy)

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        # again: a plugin after this one (replay) may have made another loader
        strategy.dataloader = whole_batches(strategy.dataloader, self.iterations)

    def before_eval_exp(self, strategy: Any, **kwargs: Any) -> None:
        strategy.dataloader = whole_batches(strategy.dataloader)


class FromScratchPlugin(Plugin):
    """Train each experience alone, from the initial weights ("separate").

    The optimizer's state is forgotten too. What a growing head adds later starts as it
    was made. Floating-point buffers (grids, running statistics) go back as well; integer
    ones are a head's book-keeping and stay.

    Source: the single-task reference of Lopez-Paz and Ranzato 2017, arXiv:1706.08840.
        differs from Avalanche's FromScratchTrainingPlugin, which leaves grids as they
        are and saves weights before heads exist.
    """

    stage = Stage.RESET
    state = ("_initial",)
    needs = Needs(
        fixed_grids="it puts the first weights back, which don't fit a grid that has "
        "changed; leave grow_grids out instead",
        free_weights="it puts the first weights back, and another part keeps those of "
        "the past; use strategy=from_scratch by itself instead",
    )

    def __init__(self) -> None:
        super().__init__()
        self._initial: dict[str, Tensor] = {}

    @torch.no_grad()
    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        model = strategy.model
        for name, tensor in chain(model.named_parameters(), model.named_buffers()):
            if name in self._initial:
                tensor.copy_(self._initial[name])
            elif tensor.is_floating_point():
                self._initial[name] = tensor.detach().clone()
        strategy.optimizer.state = defaultdict(dict)


@dataclass(kw_only=True, eq=False)
class SchedulePlugin(Plugin):
    """Put each experience's full learning rate back when its training ends."""

    stage = Stage.SCHEDULE
    state = ("_full",)

    _full: list[float] = field(default_factory=list, init=False)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self._full = [group["lr"] for group in strategy.optimizer.param_groups]

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        for group, full in zip(strategy.optimizer.param_groups, self._full):
            group["lr"] = full


@dataclass(kw_only=True, eq=False)
class LinearDecayPlugin(SchedulePlugin):
    """Let the learning rate fall linearly to 0 in each experience, then start anew.

    Iteration i of n is made with ``lr (1 - i/n)``: the first with all of it, the last
    with ``lr/n``.
    """

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        n = strategy.train_epochs * len(strategy.dataloader)
        share = 1 - strategy.clock.train_exp_iterations / n
        for group, full in zip(strategy.optimizer.param_groups, self._full):
            group["lr"] = full * share


@dataclass(kw_only=True, eq=False)
class EpochDecayPlugin(SchedulePlugin):
    """Multiply the learning rate by ``gamma`` after every epoch, starting anew each time.

    Args:
        gamma: above 0.
    """

    gamma: Positive = 1.0

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        for group in strategy.optimizer.param_groups:
            group["lr"] *= self.gamma


@dataclass(kw_only=True, eq=False)
class ExperienceDecayPlugin(Plugin):
    """Multiply the learning rate by ``gamma`` after every experience.

    Later experiences are then learned less, so earlier ones are forgotten less: what a
    comparison without it on both sides is to be compared with.

    Args:
        gamma: above 0 and at most 1.
    """

    stage = Stage.SCHEDULE

    gamma: PositiveShare = 1.0

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        for group in strategy.optimizer.param_groups:
            group["lr"] *= self.gamma


class BestEpochPlugin(Plugin):
    """End an experience's training when validation no longer gains; keep the best epoch.

    After each epoch the accuracy on the held-out samples of the experience in training
    is measured (Cumulative: of all experiences so far; JointTraining: of all). The best
    weights are put back before anything else happens at the end of the experience; the
    optimizer's moments stay those of the last step. Test data decide nothing.

    Args:
        stream: validation experiences, one for each training experience.
        patience: so many epochs in a row without a better accuracy end the training.
            None: all epochs are trained.
        restore: put the best epoch's weights back; False keeps the last ones.
        record: takes the numbers ``MEASURED`` of each experience.
    Raises: ValueError if ``patience`` is below 1.
    Source: Prechelt 1998, "Early stopping - but when?", section 2.
    """

    MEASURED = ("epochs_trained", "best_epoch")

    stage = Stage.SELECT
    state = ("_best", "_best_epoch", "_epoch", "_weights")
    transient = ("_stream", "_data", "_record")

    def __init__(
        self,
        *,
        stream: Iterable[Any],
        patience: int | None = None,
        restore: bool = True,
        record: Record = lambda name, value: None,
    ) -> None:
        super().__init__()
        if patience is not None and patience < 1:
            raise ValueError(f"patience={patience} must be at least 1")
        self.patience, self.restore = patience, restore
        self._stream, self._record = list(stream), record
        self._data: tuple[Tensor, Tensor, Tensor]
        self._weights: dict[str, Tensor] = {}
        self._best, self._best_epoch, self._epoch = -1.0, 0, 0

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        parts = self._stream
        if not isinstance(strategy, JointTraining):
            k = strategy.experience.current_experience
            parts = parts[0 if isinstance(strategy, Cumulative) else k : k + 1]
        each = [as_tensors(part.dataset) for part in parts]
        x, y, task_labels = (torch.cat(columns) for columns in zip(*each))
        self._data = x, y, task_labels
        self._weights = {}
        self._best, self._best_epoch, self._epoch = -1.0, 0, 0

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        self._epoch += 1
        accuracy = self._accuracy(strategy)
        if accuracy > self._best:
            self._best, self._best_epoch = accuracy, self._epoch
            if self.restore:
                state = strategy.model.state_dict()
                self._weights = {k: v.detach().clone() for k, v in state.items()}
        elif self.patience and self._epoch - self._best_epoch >= self.patience:
            strategy.stop_training()

    @torch.no_grad()
    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        for name, tensor in strategy.model.state_dict().items():
            if name in self._weights:
                tensor.copy_(self._weights[name])
        self._weights = {}
        for name, value in zip(self.MEASURED, (self._epoch, self._best_epoch)):
            self._record(name, value)

    @torch.no_grad()
    def _accuracy(self, strategy: Any) -> float:
        x, y, labels = self._data
        chunks = evaluate_in_chunks(strategy.model, x, labels, device=strategy.device)
        hits = [
            ACCURACY.per_sample(outputs.to(y.device), y[rows.to(y.device)])
            for rows, outputs in chunks
        ]
        return float(torch.cat(hits).double().mean())
