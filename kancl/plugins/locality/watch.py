"""What samples of the experience in training do to the bases of a network's KAN layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kancl.data.rows import as_tensors
from kancl.metrics.locality import Occupancy
from kancl.models import KANLinear, inspect
from kancl.models.inspect import evaluate_in_chunks, kan_layers
from kancl.models.inspect import shown_name as named_as_shown

See = Callable[[str, KANLinear, Tensor], None]
"""Gets a layer's name, the layer and its inputs ``(batch, in_features)``."""

__all__ = ["kan_layers", "named_as_shown", "occupancies", "pass_through", "watch"]


def watch(model: nn.Module, see: See) -> list[torch.utils.hooks.RemovableHandle]:
    """Hand every KAN layer's inputs to ``see``, until the handles are removed."""
    return inspect.watch(kan_layers(model).items(), see)


def occupancies(strategy: Any, n_samples: int | None = None) -> dict[str, Occupancy]:
    """How much the experience in training uses each KAN layer's coefficients.

    Args:
        n_samples: of the experience, at even distances; None takes all.
    Returns: by layer, for those that a sample gets to.
    """
    found: dict[str, Occupancy] = {}

    def see(name: str, layer: KANLinear, x: Tensor) -> None:
        now = Occupancy.of(layer.b_splines(x))
        found[name] = found[name] + now if name in found else now

    pass_through(strategy, see, n_samples)
    return found


def pass_through(strategy: Any, see: See, n_samples: int | None = None) -> None:
    """Send samples of the experience in training through the network, to be seen."""
    x, _, task_labels = as_tensors(strategy.experience.dataset, n_samples)
    model, device = strategy.model, strategy.device
    with inspect.watching(kan_layers(model).items(), see):
        for _ in evaluate_in_chunks(model, x, task_labels, device=device):
            pass
