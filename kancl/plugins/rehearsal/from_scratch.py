"""Start every experience with the weights of the first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from kancl.plugins.plugin import Needs, Plugin, Stage


class FromScratchPlugin(Plugin):
    """Train each experience alone, from the initial weights ("separate").

    The optimizer's state is forgotten too. Weights are copied in place. What a growing
    head adds later starts as it was made. Floating-point buffers (grids, running
    statistics) belong to the weights and go back too; integer ones are a head's
    book-keeping and stay.

    Source: the single-task reference of Lopez-Paz and Ranzato 2017, arXiv:1706.08840.
        differs from Avalanche's FromScratchTrainingPlugin, which leaves grids as they
        are, saves weights before heads exist and calls a deprecated function.
    """

    stage = Stage.RESET
    state = ("_initial",)
    needs = Needs(
        fixed_grids="it puts the first weights back, which don't fit a grid that has "
        "changed; leave grow_grids out instead"
    )

    def __init__(self) -> None:
        super().__init__()
        self._initial: dict[str, Tensor] = {}

    @torch.no_grad()
    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        for name, tensor in _weights(strategy.model):
            if name in self._initial:
                tensor.copy_(self._initial[name])
            else:
                self._initial[name] = tensor.detach().clone()
        strategy.optimizer.state = defaultdict(dict)


def _weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if tensor.is_floating_point():
            yield name, tensor
