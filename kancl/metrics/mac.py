"""Avalanche's multiply-accumulate metrics, with splines counted."""

from typing import Any

from avalanche.evaluation import PluginMetric
from avalanche.evaluation.metrics import MAC, MAC_metrics
from torch import Tensor, nn

from kancl.models.cost import forward_flops, has_splines


class SplineMAC(MAC):
    """Multiply-accumulates of one sample: half of ``kancl.models.cost.forward_flops``.

    Avalanche's own counts modules whose class is called Linear or Conv2d, and takes any
    other for free.
    """

    def update(self, model: nn.Module, dummy_input: Tensor) -> None:
        """Run the model on ``(1, ...)`` inputs and add up what its layers cost."""
        layers = [layer for layer in model.modules() if has_splines(layer)]
        handles = [layer.register_forward_hook(self._add) for layer in layers]
        try:
            super().update(model, dummy_input)
        finally:
            for handle in handles:
                handle.remove()

    def _add(self, layer: nn.Module, *_: Any) -> None:
        self._compute_cost += forward_flops(layer) // 2


def mac_metrics(
    *, minibatch: bool = False, epoch: bool = False, experience: bool = False
) -> list[PluginMetric[int]]:
    """Avalanche's ``MAC_metrics``, under the same names, with splines counted.

    Args:
        minibatch: one value per training iteration.
        epoch: one per training epoch.
        experience: one per evaluated experience.
    """
    metrics = MAC_metrics(minibatch=minibatch, epoch=epoch, experience=experience)
    for metric in metrics:
        metric._metric = metric._mac = SplineMAC()
    return metrics
