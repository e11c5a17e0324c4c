"""Samples of the experience in training, and what they do to KAN layers' bases."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kancl.data.rows import as_tensors
from kancl.metrics.locality import Occupancy
from kancl.models import KANLinear
from kancl.models.inspect import See, evaluate_in_chunks, kan_layers, watching


def drawn(
    strategy: Any, n: int | None, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return inputs, targets and task labels of samples drawn apart from training.

    Args:
        n: how many; None, or more than there are, takes all, in their order.
    """
    dataset = strategy.experience.dataset
    if n is not None and n < len(dataset):
        order = torch.randperm(len(dataset), generator=generator)
        dataset = dataset.subset(order[:n].tolist())
    return as_tensors(dataset)


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
    """Show what enters the KAN layers at samples of the experience in training."""
    x, _, labels = as_tensors(strategy.experience.dataset, n_samples)
    show(strategy, kan_layers(strategy.model), see, x, labels)


def show(
    strategy: Any, layers: Mapping[str, nn.Module], see: See, x: Tensor, labels: Tensor
) -> None:
    """Hand what enters the layers to ``see`` while samples pass through the network."""
    with watching(layers.items(), see):
        deque(evaluate_in_chunks(strategy.model, x, labels, device=strategy.device), 0)
