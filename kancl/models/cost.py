"""What a network costs: parameters and floating-point operations.

FLOPs count 2 per multiply-accumulate of the dense computation, as for an MLP; a spline
basis function costs ``3*(degree+1)`` per input value.
"""

from collections.abc import Callable

from torch import nn

from kancl.models.kan_linear import KANLinear


def n_parameters(model: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def forward_flops(model: nn.Module) -> int:
    """Floating-point operations of one sample's forward pass."""
    return sum(
        count(module)
        for module in model.modules()
        for kind, count in _FLOPS.items()
        if type(module) is kind
    )


def training_flops(model: nn.Module) -> int:
    """Forward and backward of one sample: 3 forward passes, by custom."""
    return 3 * forward_flops(model)


def _linear(layer: nn.Linear) -> int:
    return 2 * layer.in_features * layer.out_features


def _kan_linear(layer: KANLinear) -> int:
    per_edge = layer.grid_size + layer.spline_order + (layer.base_weight is not None)
    basis = 3 * (layer.spline_order + 1) ** 2 * layer.in_features
    return 2 * layer.in_features * layer.out_features * per_edge + basis


_FLOPS: dict[type[nn.Module], Callable[..., int]] = {
    nn.Linear: _linear,
    KANLinear: _kan_linear,
}
