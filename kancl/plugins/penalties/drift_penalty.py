"""Hold coefficients by how much past samples used them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kancl.config.values import NonNegative
from kancl.models.inspect import kan_layers
from kancl.plugins.occupancies import occupancies
from kancl.plugins.penalties.quadratic_anchor import AnchorPlugin, values
from kancl.plugins.plugin import Needs

SAMPLES = 2_000  # of an experience: occupancies are means, and settle soon


@dataclass(kw_only=True, eq=False)
class DriftPenaltyPlugin(AnchorPlugin):
    """Hold spline coefficients by how much past experiences used them: no labels needed.

    ``loss += drift_lambda sum_pg o_pg |c_pg - c*_pg|^2``, ``o`` the occupancy summed over
    past experiences, ``c*`` the coefficients after the latest: the drift bound, squared.

    Args:
        drift_lambda: strength.
    Raises: ValueError if ``drift_lambda`` is negative.
    Source: the bound of ``kancl.metrics.locality.drift_bound``.
    """

    needs = Needs(
        spline_bases="it weighs spline coefficients; use model=kan, or "
        "strategy=l2_anchor or strategy=ewc instead"
    )

    drift_lambda: NonNegative = 1.0

    @property
    def factor(self) -> float:
        return self.drift_lambda

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
