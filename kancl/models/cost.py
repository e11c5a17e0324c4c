"""What a network costs, parameters and floating-point operations; and equal sizes."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Literal

from torch import nn

from kancl.models.kan_linear import KANLinear
from kancl.models.layer_features import SplineFeatures
from kancl.models.random_filters import RandomFilters
from kancl.models.spline_activation import SplineActivation
from kancl.splines import basis_flops

LARGEST_WIDTH = 2**20


def n_parameters(model: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def n_active_parameters(model: nn.Module) -> int:
    """Trainable parameters that the output for one sample depends on.

    An edge has ``grid_size + degree`` coefficients; ``degree + 1`` have a basis that is
    not 0 there. A layer whose bases are anchored needs those of the anchor too.
    """
    idle = 0
    for layer in model.modules():
        if isinstance(layer, KANLinear) and layer.coefficients.requires_grad:
            alive = (layer.spline_order + 1) * (1 if layer.anchor is None else 2)
            n_idle = max(0, layer.coefficients.shape[1] - alive)
            idle += layer.in_features * layer.out_features * n_idle
    return n_parameters(model) - idle


def has_splines(layer: nn.Module) -> bool:
    """Whether ``forward_flops`` counts bases in this very module."""
    return type(layer) in (KANLinear, SplineFeatures, SplineActivation)


def forward_flops(model: nn.Module) -> int:
    """Floating-point operations of one sample's forward pass.

    2 per multiply-accumulate of the dense computation; a spline basis function costs
    ``3*(degree+1)`` per input value. Torch's ``FlopCounterMode`` counts the same.
    """
    flops = 0
    for layer in model.modules():
        if type(layer) is nn.Linear:
            flops += 2 * layer.in_features * layer.out_features
        elif type(layer) is KANLinear:
            degree, base = layer.spline_order, layer.base_weight is not None
            per_edge = 2 * (layer.grid_size + degree + base)
            flops += layer.in_features * layer.out_features * per_edge
            flops += basis_flops(degree) * layer.in_features
        elif type(layer) is SplineFeatures:
            flops += basis_flops(layer.degree) * layer.in_features
        elif type(layer) is SplineActivation:
            n_basis, degree = layer.grid_size + layer.DEGREE, layer.DEGREE
            flops += layer.features * (2 * n_basis + basis_flops(degree))
        elif type(layer) is RandomFilters:
            flops += layer.response_flops
    return flops


def match_hidden(
    build: Callable[[Sequence[int]], nn.Module],
    n_hidden_layers: int,
    target: int,
    by: Literal["params", "flops"],
) -> list[int]:
    """Equal hidden widths at which ``build(hidden)`` comes closest to ``target``.

    Args:
        build: makes the network of given hidden widths.
        target: parameters, or FLOPs of one forward pass.
    Raises: ValueError if there is no hidden layer to solve for.
    """
    if n_hidden_layers < 1:
        raise ValueError("matching needs a hidden layer; set hidden to one or more")
    measure = n_parameters if by == "params" else forward_flops

    def size(width: int) -> int:
        return measure(build([width] * n_hidden_layers))

    high = 2
    while size(high) < target and high < LARGEST_WIDTH:
        high *= 2
    reached = bisect_left(range(high), target, high // 2, key=size)
    nearest = min((max(1, reached - 1), reached), key=lambda w: abs(size(w) - target))
    return [nearest] * n_hidden_layers
