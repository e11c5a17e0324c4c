"""Experience replay: exemplars of the past beside every batch."""

from __future__ import annotations

from typing import Any, Literal

import torch
from avalanche.models import avalanche_forward
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor

from kancl.plugins.hyperparameters import at_least
from kancl.plugins.rehearsal.exemplar_memory import ExemplarMemory


class ReplayPlugin(SupervisedPlugin):
    """Add the loss on a batch of exemplars to the loss on the current batch.

    ``L = w * L_current + (1 - w) * L_replayed``; ``w`` is the current share of all
    images in the step (``weighting="images"``) or ``1/t`` in the t-th experience
    (``weighting="experiences"``). Penalties that other plugins added stay as they are.

    Args:
        memory: what is replayed; each experience joins it when its training ends.
        batch_size: exemplars per iteration; None takes the strategy's batch size.
        weighting: how current and replayed loss share the step.
    Raises: ValueError if ``batch_size`` is below 1 or ``weighting`` is unknown.
    Source: Rolnick et al. 2019, arXiv:1811.11682; weights as in van de Ven et al. 2022,
        "Three types of incremental learning". differs from Avalanche's ReplayPlugin:
        exemplars pass through the network apart from the current batch, so both losses
        are known.
    """

    def __init__(
        self,
        memory: ExemplarMemory,
        batch_size: int | None = None,
        weighting: Literal["images", "experiences"] = "images",
    ) -> None:
        super().__init__()
        if weighting not in ("images", "experiences"):
            raise ValueError(
                f"weighting must be 'images' or 'experiences', got {weighting!r}"
            )
        if batch_size is not None:
            at_least("replay_batch_size", batch_size)
        self.memory = memory
        self.batch_size = batch_size
        self.weighting = weighting

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        if not len(self.memory):
            return
        x, y, task_labels = self._draw(strategy)
        replayed = strategy._criterion(
            avalanche_forward(strategy.model, x, task_labels), y
        )
        current = strategy._criterion(strategy.mb_output, strategy.mb_y)
        if self.weighting == "images":
            share = len(strategy.mb_y) / (len(strategy.mb_y) + len(y))
        else:
            share = 1 / (strategy.clock.train_exp_counter + 1)
        strategy.loss = strategy.loss + (share - 1) * current + (1 - share) * replayed

    def _draw(self, strategy: Any) -> tuple[Tensor, Tensor, Tensor]:
        return self.memory.draw(self.batch_size or strategy.train_mb_size)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self.memory.add(strategy.experience.dataset, torch.device(strategy.device))
