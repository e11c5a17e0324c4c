"""Memory-aware synapses: importance from the sensitivity of the outputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from kancl.config.values import NonNegative
from kancl.data.rows import as_tensors
from kancl.plugins.penalties.per_sample_gradients import gradient_moments
from kancl.plugins.penalties.pooling import Pooling, pooled
from kancl.plugins.penalties.quadratic_anchor import AnchorPlugin, values


@dataclass(kw_only=True, eq=False)
class MASPlugin(AnchorPlugin):
    """Hold parameters by how strongly they move the outputs (memory-aware synapses).

    ``Omega_i += 1/N sum_n |d |f(x_n)|^2 / d theta_i|`` after each experience; ``loss +=
    mas_lambda sum_i Omega_i (theta_i - theta*_i)^2``, ``theta*`` the latest end. No
    labels are used.

    Args:
        mas_lambda: strength.
        pooling: of spline coefficients' importances: none; knot: one per input's basis;
            occupancy: divided by how much the experience used the basis.
    Raises: ValueError if ``mas_lambda`` is negative.
    Source: Aljundi et al. 2018, arXiv:1711.09601, section 4. differs from Avalanche:
        absolute values per sample, not of a mini-batch's mean; importances are summed
        over experiences as in the paper's code, not averaged; a loss of exactly 0 is no
        failure.
    """

    mas_lambda: NonNegative = 1.0
    pooling: Pooling = "none"

    @property
    def factor(self) -> float:
        return self.mas_lambda

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        x, y, task_labels = as_tensors(strategy.experience.dataset)
        x, y = x.to(strategy.device), y.to(strategy.device)
        sums = gradient_moments(
            strategy.model, x, y, task_labels, _squared_norm, power=1
        )
        importance = {name: moment / len(x) for name, moment in sums.items()}
        importance = pooled(importance, self.pooling, strategy)
        self.anchor.move(importance, to=values(strategy.model))


def _squared_norm(outputs: Tensor, targets: Tensor) -> Iterator[Tensor]:
    yield (outputs**2).sum(1)
