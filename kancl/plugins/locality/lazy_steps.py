"""Steps that leave alone whatever the batch has not touched."""

from __future__ import annotations

from typing import Any

from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor

from kancl.models import KANLinear
from kancl.plugins.locality.held import HeldCoefficients
from kancl.plugins.locality.watch import kan_layers, watch


class LazyStepsPlugin(SupervisedPlugin):
    """Keep untouched spline coefficients, and their moments, to the bit.

    A coefficient whose basis was 0 at all samples of the batch has a loss gradient of
    exactly 0, and yet it moves: by momentum, by Adam's moments, by weight decay, by the
    gradient of a penalty. Here neither it nor its optimizer state does, whatever the
    optimizer. Touched ones take their usual step; Adam's count of steps goes on for
    all, as in torch's ``SparseAdam``.

    A strategy that moves weights after the step (Gram occupancy, an implicit pull)
    still does so.
    """

    def __init__(self) -> None:
        super().__init__()
        self._handles: list[Any] = []
        self._touched: dict[str, Tensor] = {}
        self._held: HeldCoefficients | None = None

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        self._touched = {}
        self._handles = watch(strategy.model, self._see)

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        idle = {
            layer: ~self._touched.get(name, layer.coefficients.new_zeros(1, 1).bool())
            for name, layer in kan_layers(strategy.model).items()
        }
        shapes = {layer: layer.coefficients.shape[:2] for layer in idle}
        self._held = HeldCoefficients(
            {layer: rows.expand(shapes[layer]) for layer, rows in idle.items()},
            strategy.optimizer,
        )

    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        assert self._held is not None
        self._held.put_back(strategy.optimizer)
        self._held = None

    def _see(self, name: str, layer: KANLinear, x: Tensor) -> None:
        now = (layer.b_splines(x) != 0).any(0)  # (in_features, n_basis)
        self._touched[name] = now | self._touched.get(name, now)
