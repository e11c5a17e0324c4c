"""What samples of the experience in training do to the bases of a network's KAN layers."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kancl.data.rows import as_tensors
from kancl.metrics.locality import Occupancy
from kancl.models import KANLinear
from kancl.models.inspect import See, evaluate_in_chunks, kan_layers, watching


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
    with watching(kan_layers(model).items(), see):
        for _ in evaluate_in_chunks(model, x, task_labels, device=device):
            pass
