"""Experience replay: exemplars of the past beside every batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from avalanche.models import avalanche_forward

from kancl.plugins.rehearsal.rehearsal_plugin import RehearsalPlugin


@dataclass(kw_only=True, eq=False)
class ReplayPlugin(RehearsalPlugin):
    """Train on kept samples beside every current batch (experience replay, ER).

    ``L = w * L_current + (1 - w) * L_replayed``; ``w`` is the current share of all
    samples in the step (``weighting="images"``) or ``1/t`` in the t-th experience
    (``weighting="experiences"``). Penalties that other plugins added stay as they are.

    Args:
        weighting: how current and replayed loss share the step.
    Source: Rolnick et al. 2019, arXiv:1811.11682; weights as in van de Ven et al. 2022,
        "Three types of incremental learning". differs from Avalanche's ReplayPlugin:
        exemplars pass through the network apart from the current batch, so both losses
        are known; for its memory see ``GroupedExemplars``.
    """

    weighting: Literal["images", "experiences"] = "images"

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        if not len(self.memory):
            return
        x, y, task_labels = self.draw(strategy)
        replayed = strategy._criterion(
            avalanche_forward(strategy.model, x, task_labels), y
        )
        current = strategy._criterion(strategy.mb_output, strategy.mb_y)
        if self.weighting == "images":
            share = len(strategy.mb_y) / (len(strategy.mb_y) + len(y))
        else:
            share = 1 / (strategy.clock.train_exp_counter + 1)
        strategy.loss = strategy.loss + (share - 1) * current + (1 - share) * replayed
