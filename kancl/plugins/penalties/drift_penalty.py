"""Hold coefficients by how much past samples used them."""

from __future__ import annotations

from typing import Any

from avalanche.training.plugins import SupervisedPlugin

from kancl.plugins.hyperparameters import non_negative
from kancl.plugins.locality.watch import kan_layers, occupancies
from kancl.plugins.penalties.quadratic_anchor import QuadraticAnchor, values

SAMPLES = 2_000  # of an experience: occupancies are means, and settle soon


class DriftPenaltyPlugin(SupervisedPlugin):
    """Add ``lambda sum_pg o_pg |c_pg - c*_pg|^2``: the drift bound, squared, as a loss.

    ``o`` is the past experiences' occupancy summed, ``c*`` the coefficients after the
    latest. No labels, no gradients: only where samples were.

    Args:
        drift_lambda: strength.
    Raises: ValueError if ``drift_lambda`` is negative.
    Source: the bound of ``kancl.metrics.locality.drift_bound``.
    """

    def __init__(self, drift_lambda: float) -> None:
        super().__init__()
        self.drift_lambda = non_negative(
            "drift_lambda", drift_lambda, "0 trains as naive does"
        )
        self.anchor = QuadraticAnchor()

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        if self.anchor:
            strategy.loss += self.drift_lambda * self.anchor.penalty(strategy.model)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        importance = {}
        layers = kan_layers(strategy.model)
        for name, occupancy in occupancies(strategy, SAMPLES).items():
            coefficients = layers[name].coefficients
            if coefficients.requires_grad:
                of_rows = occupancy.mean.to(coefficients.dtype).unsqueeze(-1)
                key = f"{name}.coefficients"
                importance[key] = of_rows.expand_as(coefficients).clone()
        self.anchor.move(importance, to=values(strategy.model))
