"""Steps that leave alone whatever the batch has not touched."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from kancl.models import KANLinear
from kancl.models.inspect import kan_layers, watch
from kancl.plugins.loop.lazy_evaluation import overrides
from kancl.plugins.plugin import Needs, Plugin, Stage
from kancl.plugins.setup import TrainingSetup
from kancl.plugins.steps.frozen_coefficients import FrozenCoefficients


class LazyStepsPlugin(Plugin):
    """Leave untouched spline coefficients, and their moments, as they are, to the bit.

    A coefficient whose basis was 0 at all samples of the batch has a loss gradient of
    exactly 0, and yet it moves: by momentum, by Adam's moments, by weight decay, by the
    gradient of a penalty. Here neither it nor its optimizer state does, whatever the
    optimizer. Touched ones take their usual step; Adam's count of steps goes on for
    all, as in torch's ``SparseAdam``. The optimizer is made anew for each experience.
    Where plain SGD follows the batch's loss and nothing else, this is so by itself, and
    nothing is done.

    A method that moves weights after the step (Gram occupancy, an implicit pull) still
    does so.
    """

    stage = Stage.WATCH_STEP
    transient = ("_handles", "_inputs", "_loss", "_frozen")
    needs = Needs(
        spline_bases="it looks at which splines a batch touches; use model=kan instead"
    )

    def __init__(self) -> None:
        super().__init__()
        self._handles: list[Any] = []
        self._inputs: dict[str, list[Tensor]] = {}
        self._loss: Any = None
        self._frozen: FrozenCoefficients | None = None

    def prepare(self, setup: TrainingSetup) -> None:
        setup.reset_optimizer = True

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        self._inputs = {}
        self._handles = watch(kan_layers(strategy.model).items(), self._see)

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        self._loss = strategy.loss.grad_fn

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        only_the_loss = strategy.loss.grad_fn is self._loss and not any(
            overrides(plugin, "after_backward")
            for plugin in strategy.plugins
            if plugin is not strategy.evaluator  # answers to any name, changes nothing
        )
        self._loss = None
        if not (only_the_loss and _is_plain(strategy.optimizer)):
            layers = kan_layers(strategy.model).items()
            idle = {layer: ~self._touched(name, layer) for name, layer in layers}
            self._frozen = FrozenCoefficients(idle, strategy.optimizer)
        self._inputs = {}

    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        if self._frozen is not None:
            self._frozen.put_back(strategy.optimizer)
            self._frozen = None

    def _see(self, name: str, layer: KANLinear, x: Tensor) -> None:
        self._inputs.setdefault(name, []).append(x)

    @torch.no_grad()
    def _touched(self, name: str, layer: KANLinear) -> Tensor:
        """Coefficients that a sample reaches, ``(in_features, n_basis)``."""
        touched = torch.zeros(
            layer.coefficients.shape[:2], dtype=torch.bool, device=layer.grid.device
        )
        for x in self._inputs.get(name, []):
            touched |= (layer.b_splines(x) != 0).any(0)
        return touched


def _is_plain(optimizer: Optimizer) -> bool:
    """Whether steps are gradients times a rate: no momentum, no weight decay."""
    return isinstance(optimizer, torch.optim.SGD) and not any(
        group["momentum"] or group["weight_decay"] for group in optimizer.param_groups
    )
