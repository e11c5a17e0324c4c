"""What a KAN layer takes: its options and its inputs."""

import math
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from kancl.splines import check_implementation, check_outside


def check_options(layer: Any, grid_size: int) -> None:
    """Raises: ValueError for an option of a ``KANLinear`` that is out of range."""
    sizes = dict(in_features=layer.in_features, out_features=layer.out_features)
    for name, size in (sizes | {"grid_size": grid_size}).items():
        if not isinstance(size, Integral) or size < 1:
            raise ValueError(f"{name} must be a whole number from 1, got {size!r}")
    for name in ("scale_noise", "scale_base", "scale_spline"):
        if not math.isfinite(scale := getattr(layer, name)):
            raise ValueError(f"{name} must be finite, got {scale}")
    if layer.spline_order not in range(1, 6):
        raise ValueError(
            f"spline_order is the degree, 1 to 5 (3 = cubic), got {layer.spline_order}"
        )
    if not 0 <= layer.grid_eps <= 1:
        raise ValueError(f"grid_eps is a share from 0 to 1, got {layer.grid_eps}")
    check_outside(layer.outside)
    check_implementation(layer.implementation, grid_size, layer.spline_order)


def check_input(layer: Any, x: Tensor, n_dimensions: int | None = None) -> None:
    """Raises: ValueError for another number of features or dimensions, or no floats."""
    if n_dimensions not in (None, x.dim()):
        raise ValueError(
            f"expected samples as (batch, {layer.in_features}), got {tuple(x.shape)}"
        )
    if not x.is_floating_point():
        raise ValueError(f"expected floating-point inputs, got {x.dtype}")
    if x.shape[-1] != layer.in_features:
        raise ValueError(
            f"expected {layer.in_features} input features in the last dimension, "
            f"got shape {tuple(x.shape)}"
        )


def check_dtype(x: Tensor, weights: Tensor) -> None:
    """Raises: ValueError if they differ, but for autocast, which decides for both."""
    if x.dtype != weights.dtype and not torch.is_autocast_enabled(x.device.type):
        raise ValueError(
            f"inputs are {x.dtype} and weights {weights.dtype}: convert one of "
            "them, x.to(dtype) or layer.to(dtype)"
        )
