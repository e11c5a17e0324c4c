"""Solve the last layer in closed form, from sums over everything seen so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from kancl.models.heads import UNSEEN
from kancl.models.inspect import last_layers
from kancl.models.layer_features import constant_weights, layer_features, set_weights
from kancl.models.readouts import FeatureSums

Solve = Callable[[nn.Module, FeatureSums], Tensor]
"""Of the last layer and the sums: its weights, ``(n_features, n_classes)``."""


class ClosedFormReadoutPlugin(SupervisedPlugin):
    """Add up the last layer's features while they pass, and solve it after each epoch.

    Every sample counts once, in the first epoch. What comes before the last layer must
    stay as it is, and gradients must not move the last layer either: use it with a
    strategy that only goes forward. A head per task label has its own sums; a growing
    head is solved as the one layer it amounts to. Classes not seen give ``UNSEEN``.

    Args:
        solve: gives the weights; see ``kancl.models.readouts``.
        gram: whether it needs the features' gram matrix.
    """

    def __init__(self, solve: Solve, *, gram: bool) -> None:
        super().__init__()
        self.solve, self.gram = solve, gram
        self.sums: dict[int | None, FeatureSums] = {}
        """By task label; None where one layer serves all."""
        self._inputs: dict[int | None, Tensor] = {}
        self._handles: list[RemovableHandle] = []

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        for label, last in last_layers(strategy.model).items():
            self._handles.append(
                last.layers[0].register_forward_pre_hook(self._keeper(label))
            )

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        self._inputs.clear()  # of an evaluation in between

    @torch.no_grad()
    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        if strategy.clock.train_exp_epochs > 0:
            return
        groups = last_layers(strategy.model)
        for label, x in self._inputs.items():
            last, y = groups[label], strategy.mb_y
            if label is not None:
                y = y[strategy.mb_task_id == label]
            features = layer_features(last.layers[0], x)
            if label not in self.sums:
                size = features.shape[1], last.n_classes
                self.sums[label] = FeatureSums(*size, gram=self.gram, device=x.device)
            self.sums[label].add(features, y)

    @torch.no_grad()
    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Not only after the experience: whoever measures there sees the solution."""
        for label, last in last_layers(strategy.model).items():
            if label not in self.sums:
                continue
            sums = self.sums[label]
            weights = self.solve(last.layers[0], sums)
            constant = constant_weights(last.layers[0]).to(weights)
            seen = sums.n_samples > 0
            weights = torch.where(seen, weights, UNSEEN * constant.unsqueeze(1))
            for layer, classes in zip(last.layers, last.classes):
                set_weights(layer, weights[:, classes])

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _keeper(self, label: int | None) -> Callable[[nn.Module, Any], None]:
        def keep(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self._inputs[label] = inputs[0]

        return keep
