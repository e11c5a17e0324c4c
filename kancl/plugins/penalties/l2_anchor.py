"""Hold every parameter near its latest value: the control for importance weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from kancl.config.values import NonNegative
from kancl.plugins.penalties.quadratic_anchor import AnchorPlugin, trainable, values


@dataclass(kw_only=True, eq=False)
class L2AnchorPlugin(AnchorPlugin):
    """Hold all parameters alike at their latest values: the control for importances.

    ``loss += l2_lambda |theta - theta*|^2``, ``theta*`` the parameters after the latest
    experience, of those trained so far: heads of tasks still to come are free.

    Args:
        l2_lambda: strength.
    Raises: ValueError if ``l2_lambda`` is negative.
    Source: the "L2" control of Kirkpatrick et al. 2017, arXiv:1612.00796, fig. 2.
        Avalanche has none.
    """

    state = ("anchor", "_trained")

    l2_lambda: NonNegative = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._trained: set[str] = set()

    @property
    def factor(self) -> float:
        return self.l2_lambda

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        parameters = trainable(strategy.model).items()
        self._trained.update(name for name, p in parameters if p.grad is not None)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        latest = values(strategy.model)
        ones = {n: torch.ones_like(p) for n, p in latest.items() if n in self._trained}
        self.anchor.move(ones, to=latest, decay=0.0)
