"""Gradients that are too long are made shorter."""

from dataclasses import dataclass
from typing import Any

from torch.nn.utils import clip_grad_norm_

from kancl.config.values import Positive
from kancl.plugins.plugin import Plugin, Stage


@dataclass(kw_only=True, eq=False)
class GradientClippingPlugin(Plugin):
    """Shorten gradients whose norm is above a limit, before each step.

    Args:
        max_norm: the limit (Euclidean norm).
        per_parameter: each parameter's gradient is measured by itself; false: all
            together, as one vector.
    Source: Pascanu et al. 2013, arXiv:1211.5063, algorithm 1.
    """

    stage = Stage.STEP

    max_norm: Positive = 10.0
    per_parameter: bool = False

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        parameters = list(strategy.model.parameters())
        groups = [[p] for p in parameters] if self.per_parameter else [parameters]
        for group in groups:
            clip_grad_norm_(group, self.max_norm)
