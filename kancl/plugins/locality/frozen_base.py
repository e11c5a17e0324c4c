"""Paths that every sample uses learn in the first experience only."""

from __future__ import annotations

from typing import Any

from avalanche.training.plugins import SupervisedPlugin

from kancl.plugins.locality.watch import kan_layers


class FrozenBasePlugin(SupervisedPlugin):
    """Freeze KAN layers' base branches and factors per edge after the first experience.

    They are no local path: a step of theirs moves outputs everywhere. Heads that come
    later keep theirs for their own first experience.
    """

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        for layer in kan_layers(strategy.model).values():
            for path in (layer.base_weight, layer.edge_scale):
                if path is not None and path.grad is not None:
                    path.requires_grad_(False)
                    path.grad = None  # optimizers leave it out: no decay, no momentum
