"""What samples do to the bases of a network's KAN layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from avalanche.models import avalanche_forward
from torch import Tensor, nn

from kancl.data.rows import as_tensors
from kancl.metrics.locality import Occupancy
from kancl.models import KANLinear
from kancl.models.named_layers import named_layers

ROWS = 512  # samples per forward pass

See = Callable[[str, KANLinear, Tensor], None]
"""Gets a layer's name, the layer and its inputs ``(batch, in_features)``."""


def kan_layers(model: nn.Module) -> dict[str, KANLinear]:
    """Return the KAN layers by name."""
    return {n: m for n, m in model.named_modules() if isinstance(m, KANLinear)}


def named_as_shown(model: nn.Module, layer: str) -> str:
    """The name that measurements go by: ``layer_1``, ..., ``head``."""
    module = model.get_submodule(layer)
    return next(
        name
        for name, parts in named_layers(model).items()
        if any(part is module for part in parts)
    )


def watch(model: nn.Module, see: See) -> list[torch.utils.hooks.RemovableHandle]:
    """Hand every KAN layer's inputs to ``see``, until the handles are removed."""
    return [
        layer.register_forward_pre_hook(partial(_hook, see, name))
        for name, layer in kan_layers(model).items()
    ]


@contextmanager
def watched(model: nn.Module, see: See) -> Iterator[None]:
    """The same while this is open."""
    handles = watch(model, see)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


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


@torch.no_grad()
def pass_through(strategy: Any, see: See, n_samples: int | None = None) -> None:
    """Send samples of the experience in training through the network, to be seen.

    In evaluation mode; modes are as they were afterwards.
    """
    model, device = strategy.model, strategy.device
    x, _, task_labels = as_tensors(strategy.experience.dataset, n_samples)
    modes = {module: module.training for module in model.modules()}
    model.eval()
    with watched(model, see):
        for task in task_labels.unique().tolist():
            rows = (task_labels == task).nonzero().flatten().to(x.device)
            for chunk in rows.split(ROWS):
                avalanche_forward(model, x[chunk].to(device), task)
    for module, mode in modes.items():
        module.training = mode


@torch.no_grad()
def _hook(see: See, name: str, layer: KANLinear, inputs: tuple[Tensor, ...]) -> None:
    see(name, layer, inputs[0].detach().flatten(0, -2))
