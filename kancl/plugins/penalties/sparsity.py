"""A penalty on what the edges of a KAN do, so that few of them are needed."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from kancl.config.values import NonNegative
from kancl.models import KANLinear
from kancl.models.edges import sparsity_loss
from kancl.models.inspect import kan_layers
from kancl.plugins.plugin import Needs, Plugin, Stage


@dataclass(kw_only=True, eq=False)
class SparsityPlugin(Plugin):
    """Push the edges of a KAN towards 0, and what is left onto few of them.

    ``loss += sparsity_lambda sum_l (l1 |Phi_l|_1 + entropy S(Phi_l))``, ``|Phi|_1`` the sum
    of the edges' mean absolute values over the batch, ``S`` the entropy of their shares.
    It computes every edge by itself: a step takes several times as long.

    Args:
        sparsity_lambda: strength of the whole.
        l1: weight of the edges' sizes.
        entropy: weight of the entropy.
    Source: Liu et al. 2024, arXiv:2404.19756, section 2.5.1.
    """

    stage = Stage.PENALTY
    transient = ("_inputs", "_watching")
    needs = Needs(
        spline_bases="it weighs the functions on a KAN's edges; use model=kan, or "
        "optimizer.weight_decay instead"
    )

    sparsity_lambda: NonNegative = 0.001
    l1: NonNegative = 1.0
    entropy: NonNegative = 1.0

    _inputs: list[tuple[KANLinear, Tensor]] = field(default_factory=list, init=False)
    _watching: ExitStack = field(default_factory=ExitStack, init=False)

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        for layer in kan_layers(strategy.model).values():
            handle = layer.register_forward_pre_hook(self._see)
            self._watching.callback(handle.remove)

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        self._watching.close()

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        inputs, self._inputs = self._inputs, []
        if self.sparsity_lambda and inputs:
            penalty = sparsity_loss(inputs, self.l1, self.entropy)
            strategy.loss += self.sparsity_lambda * penalty

    def _see(self, layer: KANLinear, inputs: tuple[Tensor, ...]) -> None:
        self._inputs.append((layer, inputs[0].flatten(0, -2)))
