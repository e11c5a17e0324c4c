"""Importances of spline coefficients, weighed by knot."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from kancl.models.inspect import kan_layers
from kancl.plugins.occupancies import occupancies

Pooling = Literal["none", "knot", "occupancy"]

SAMPLES = 2_000  # of an experience


def pooled(
    importance: dict[str, Tensor], pooling: Pooling, strategy: Any
) -> dict[str, Tensor]:
    """Importances with those of spline coefficients pooled or normalised.

    Args:
        pooling: ``none``: as they are. ``knot``: an input's basis has one importance,
            the mean over the outputs. ``occupancy``: divided by how much the present
            experience uses the basis, relative to the layer's mean use: what is seldom
            used and yet matters is held as firmly as what is used all the time.
    """
    changed = dict(importance)
    if pooling == "none":
        return changed
    used = occupancies(strategy, SAMPLES) if pooling == "occupancy" else {}
    for name in kan_layers(strategy.model):
        key = f"{name}.coefficients"
        if key not in importance:
            continue
        if pooling == "knot":
            mean = importance[key].mean(-1, keepdim=True)
            changed[key] = mean.expand_as(importance[key]).clone()
        elif name in used:
            share = used[name].mean / used[name].mean.mean()
            share = share.clamp(min=1e-3).to(importance[key].dtype)
            changed[key] = importance[key] / share.unsqueeze(-1)
    return changed
