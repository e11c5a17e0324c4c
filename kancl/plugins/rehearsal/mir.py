"""Maximally interfered retrieval: replay what the coming step would hurt most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from avalanche.models import avalanche_forward
from torch.nn.functional import cross_entropy

from kancl.config.values import Bounds, Count, convert
from kancl.plugins.penalties.per_sample_gradients import forward_with
from kancl.plugins.penalties.quadratic_anchor import trainable
from kancl.plugins.rehearsal.rehearsal_plugin import RehearsalPlugin
from kancl.plugins.setup import TrainingSetup


@dataclass(kw_only=True, eq=False)
class MIRPlugin(RehearsalPlugin):
    """Replay the kept samples that the coming step would hurt most (MIR).

    Of ``candidates`` exemplars drawn at random, those with the largest ``l(theta - lr *
    g) - l(theta)`` are replayed, ``g`` the gradient on the current batch.

    Args:
        candidates: kept samples looked at per iteration.
    Source: Aljundi et al. 2019, arXiv:1908.04742, section 3. differs from Avalanche,
        which leaves out every exemplar of a class that was in the last batch of an
        experience: all of them in domain- and task-incremental learning (it trains as
        naive does), the latest experience's in class-incremental learning.
    """

    candidates: Count = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_candidates(self.replay_batch_size or 1)

    def prepare(self, setup: TrainingSetup) -> None:
        self._check_candidates(self.replay_batch_size or setup.batch_size)

    def _check_candidates(self, n_replayed: int) -> None:
        convert(self.candidates, Annotated[int, Bounds(n_replayed)], "candidates")

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        if not len(self.memory):
            return
        x, y, task_labels = self.memory.draw(self.candidates)
        harm = self._interference(strategy, x, y, task_labels)
        n = min(self.replay_batch_size or strategy.train_mb_size, len(y))
        worst = harm.topk(n).indices
        output = avalanche_forward(strategy.model, x[worst], task_labels[worst])
        strategy.loss += strategy._criterion(output, y[worst])

    def _interference(
        self,
        strategy: Any,
        x: torch.Tensor,
        y: torch.Tensor,
        task_labels: torch.Tensor,
    ) -> torch.Tensor:
        model = strategy.model
        parameters = trainable(model)
        gradients = torch.autograd.grad(
            strategy.loss,
            list(parameters.values()),
            retain_graph=True,
            allow_unused=True,
        )
        rate = strategy.optimizer.param_groups[0]["lr"]
        with torch.no_grad():
            stepped = {
                name: p if g is None else p - rate * g
                for (name, p), g in zip(parameters.items(), gradients)
            }
            now = avalanche_forward(model, x, task_labels)
            then = forward_with(model, stepped, x, task_labels)
            before = cross_entropy(now, y, reduction="none")
            return cross_entropy(then, y, reduction="none") - before
