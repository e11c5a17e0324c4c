"""Paths that every sample uses learn in the first experience only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kancl.models.inspect import kan_layers
from kancl.plugins.plugin import Needs, Plugin, Stage


class FrozenBasePlugin(Plugin):
    """Freeze KAN layers' base branches and factors per edge after the first experience.

    They are no local path: a step of theirs moves outputs everywhere. Heads that come
    later keep theirs for their own first experience. What adds to the loss (EWC) still
    knows these parameters, and cannot move them.
    """

    stage = Stage.RESTORE
    state = ("frozen",)
    transient = ("_kept",)
    needs = Needs(
        spline_bases="it freezes what stands beside splines; use model=kan instead"
    )

    def __init__(self) -> None:
        super().__init__()
        self.frozen: set[str] = set()
        """Names of the parameters that stay."""
        self._kept: dict[str, Tensor] = {}

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        paths = _global_paths(strategy.model).items()
        self._kept = {n: p.detach().clone() for n, p in paths if n in self.frozen}

    @torch.no_grad()
    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        paths = _global_paths(strategy.model)
        for name, value in self._kept.items():
            paths[name].copy_(value)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        paths = _global_paths(strategy.model).items()
        self.frozen |= {name for name, path in paths if path.grad is not None}


def _global_paths(model: nn.Module) -> dict[str, nn.Parameter]:
    """Of every KAN layer, the parameters that all samples use."""
    return {
        f"{name}.{kind}": path
        for name, layer in kan_layers(model).items()
        for kind, path in (
            ("base_weight", layer.base_weight),
            ("edge_scale", layer.edge_scale),
        )
        if path is not None
    }
