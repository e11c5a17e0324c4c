"""Maximally interfered retrieval: replay what the coming step would hurt most."""

from __future__ import annotations

from typing import Any

import torch
from avalanche.models import avalanche_forward
from avalanche.training.plugins import SupervisedPlugin
from torch.nn.functional import cross_entropy

from kancl.plugins.hyperparameters import at_least
from kancl.plugins.penalties.per_sample_gradients import forward_with
from kancl.plugins.penalties.quadratic_anchor import trainable
from kancl.plugins.rehearsal.exemplar_memory import ExemplarMemory


class MIRPlugin(SupervisedPlugin):
    """Add the loss on the exemplars whose loss a step on the current batch raises most.

    Of ``candidates`` exemplars drawn at random, the ``batch_size`` with the largest
    ``l(theta - lr * g) - l(theta)`` are replayed, ``g`` the gradient on the current
    batch.

    Args:
        memory: exemplars; each experience joins it when its training ends.
        batch_size: exemplars replayed per iteration; None takes the strategy's batch
            size.
        candidates: exemplars looked at per iteration.
    Raises: ValueError if a size is below 1, or there are fewer candidates than are
        replayed.
    Source: Aljundi et al. 2019, arXiv:1908.04742, section 3. differs from Avalanche,
        which leaves out every exemplar of a class that was in the last batch of an
        experience: all of them in domain- and task-incremental learning (it trains as
        naive does), the latest experience's in class-incremental learning.
    """

    def __init__(
        self,
        memory: ExemplarMemory,
        batch_size: int | None = None,
        candidates: int = 256,
    ) -> None:
        super().__init__()
        if batch_size is not None:
            at_least("replay_batch_size", batch_size)
        at_least("candidates", candidates, batch_size or 1)
        self.memory = memory
        self.batch_size = batch_size
        self.candidates = candidates

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        if not len(self.memory):
            return
        x, y, task_labels = self.memory.draw(self.candidates)
        harm = self._interference(strategy, x, y, task_labels)
        n = min(self.batch_size or strategy.train_mb_size, len(y))
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

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self.memory.add(strategy.experience.dataset, torch.device(strategy.device))
