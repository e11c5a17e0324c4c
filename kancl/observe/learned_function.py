"""What a regression has learned after each experience, on a fine grid of inputs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kancl.observe.recorder import RecorderPlugin
from kancl.plugins.plugin import Plugin, Stage

FINENESS = {1: 401, 2: 81}
"""By dimensions, points along each of them."""


class LearnedFunctionPlugin(Plugin):
    """Keep the network's function, of one or two inputs, after each experience.

    Args:
        truth: what is to be learned, ``(n, dimensions)`` -> ``(n,)``.
    Raises: ValueError for more than two dimensions.
    """

    stage = Stage.OBSERVE
    state = ("functions",)
    transient = ("points", "target")

    def __init__(
        self,
        recorder: RecorderPlugin,
        truth: Callable[[Tensor], Tensor],
        dimensions: int,
        input_range: tuple[float, float],
    ) -> None:
        super().__init__()
        if dimensions not in FINENESS:
            raise ValueError(
                f"functions of 1 or 2 inputs can be drawn, not {dimensions}"
            )
        self.recorder = recorder
        axis = torch.linspace(*input_range, FINENESS[dimensions])
        grid = torch.cartesian_prod(*[axis] * dimensions)
        self.points = grid.view(-1, dimensions)
        """``(n, dimensions)``, the last one running fastest."""
        self.target = truth(self.points)
        self.functions: list[Tensor] = []
        """After each experience, ``(n,)``."""

    @torch.no_grad()
    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        with self.recorder.evaluating(strategy.device):
            outputs = strategy.model(self.points.to(strategy.device))
            self.functions.append(outputs.squeeze(1).cpu())
