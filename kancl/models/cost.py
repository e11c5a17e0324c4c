"""What a network costs: parameters and floating-point operations.

FLOPs count 2 per multiply-accumulate of the dense computation, as for an MLP; a spline
basis function costs ``3*(degree+1)`` per input value.
"""

from collections.abc import Callable

from torch import nn

from kancl.models.kan_linear import KANLinear
from kancl.models.spline_activation import SplineActivation


def n_parameters(model: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def n_active_parameters(model: nn.Module) -> int:
    """Trainable parameters that the output for one sample depends on.

    Of the ``grid_size + degree`` coefficients of an edge, ``degree + 1`` have a basis
    that is not 0 there; a layer whose bases are anchored needs those of the anchor too.
    """
    layers = [m for m in model.modules() if isinstance(m, KANLinear)]
    idle = sum(
        layer.in_features * layer.out_features * _n_idle(layer)
        for layer in layers
        if layer.coefficients.requires_grad
    )
    return n_parameters(model) - idle


def forward_flops(model: nn.Module) -> int:
    """Floating-point operations of one sample's forward pass."""
    return sum(
        count(module)
        for module in model.modules()
        for kind, count in _FLOPS.items()
        if type(module) is kind
    )


def _n_idle(layer: KANLinear) -> int:
    """Coefficients of an edge whose bases are 0 at an input."""
    n_basis, alive = layer.coefficients.shape[1], layer.spline_order + 1
    return max(0, n_basis - alive * (1 if layer.anchor is None else 2))


def _linear(layer: nn.Linear) -> int:
    return 2 * layer.in_features * layer.out_features


def _kan_linear(layer: KANLinear) -> int:
    per_edge = layer.grid_size + layer.spline_order + (layer.base_weight is not None)
    basis = 3 * (layer.spline_order + 1) ** 2 * layer.in_features
    return 2 * layer.in_features * layer.out_features * per_edge + basis


def _spline_activation(layer: SplineActivation) -> int:
    degree = layer.DEGREE
    return layer.features * (2 * (layer.grid_size + degree) + 3 * (degree + 1) ** 2)


_FLOPS: dict[type[nn.Module], Callable[..., int]] = {
    nn.Linear: _linear,
    KANLinear: _kan_linear,
    SplineActivation: _spline_activation,
}
