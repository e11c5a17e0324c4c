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
        per_layer: each layer's gradient is measured by itself, weights and bias as one
            vector; false: that of the whole network.
    Source: Pascanu et al. 2013, arXiv:1211.5063, algorithm 1.
    """

    stage = Stage.CLIP

    max_norm: Positive = 10.0
    per_layer: bool = False

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        model = strategy.model
        for part in model.modules() if self.per_layer else [model]:
            if own := list(part.parameters(recurse=not self.per_layer)):
                clip_grad_norm_(own, self.max_norm)
