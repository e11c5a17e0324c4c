"""A layer as a linear map of its features, ``y = features(x) @ weights``."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kancl.models.kan_linear import KANLinear
from kancl.splines import GridReader


class SplineFeatures(nn.Module):
    """The bases of a KAN layer and its base activations, without weights.

    Has the layer's grids as they are now; nothing in it is trained.

    Shape: ``(batch, in_features)`` -> ``(batch, n_features)``, those of
        ``layer_features``.
    """

    grid: Tensor
    anchor: Tensor | None
    warp: Tensor | None

    def __init__(self, layer: KANLinear) -> None:
        super().__init__()
        self.in_features, self.degree = layer.in_features, layer.spline_order
        self.outside = layer.outside
        for name in ("grid", "anchor", "warp"):
            tensor = getattr(layer, name)
            self.register_buffer(name, None if tensor is None else tensor.clone())
        has_base = layer.base_weight is not None
        self.base_activation = layer.base_activation if has_base else None
        self._reader = GridReader()

    def forward(self, x: Tensor) -> Tensor:
        options = self.degree, self.outside, self.anchor, self.warp
        basis = self._reader.read(self.grid, *options).basis(x)
        features = basis.to(x.dtype).flatten(1)
        if self.base_activation is None:
            return features
        return torch.cat([features, self.base_activation(x)], 1)


def linear_twin(layer: KANLinear) -> nn.Sequential:
    """``SplineFeatures`` and an ``nn.Linear`` behind them that compute what a layer does.

    The factors per edge, if any, are multiplied into the weights.
    """
    weights = layer.scaled_coefficients.detach().flatten(0, 1)
    if (base_weight := layer.masked_base_weight) is not None:
        weights = torch.cat([weights, base_weight.detach().T])
    n_features, n_outputs = weights.shape
    linear = nn.Linear(n_features, n_outputs, bias=False).to(weights)
    with torch.no_grad():
        linear.weight.copy_(weights.T)
    return nn.Sequential(SplineFeatures(layer), linear)


def has_features(module: nn.Module) -> bool:
    """Whether ``layer_features`` knows this kind of layer."""
    return type(module) in (KANLinear, nn.Linear)


def layer_features(layer: nn.Module, x: Tensor) -> Tensor:
    """A linear layer's inputs, and 1 for the bias; a KAN layer's bases and activations.

    Shape: ``(batch, in_features)`` -> ``(batch, n_features)``.
    Raises: ValueError for another kind of layer, or a factor per edge: its features
        would depend on the output.
    """
    rows = _rows(layer)
    if isinstance(layer, KANLinear):
        bases = layer.b_splines(x).to(x.dtype).flatten(1)
        if layer.base_weight is None:
            return bases
        return torch.cat([bases, layer.base_activation(x)], 1)
    return torch.cat([x, x.new_ones(len(x), 1)], 1) if "bias" in rows else x


Part = Callable[[nn.Parameter], Tensor]
"""Gives a parameter's data, its gradient, or another tensor of its shape."""


def _data(p: nn.Parameter) -> Tensor:
    return p.data


def gradient(p: nn.Parameter) -> Tensor:
    """A parameter's gradient; zeros where it has none."""
    return torch.zeros_like(p) if p.grad is None else p.grad


def weight_rows(layer: nn.Module, of: Part = _data) -> dict[str, Tensor]:
    """By parameter name, views ``(n_rows, out_features)`` of the weights' matrix.

    Args:
        of: what of each parameter.
    """
    return {n: rows(of(getattr(layer, n))) for n, rows in _rows(layer).items()}


def n_features(layer: nn.Module) -> int:
    """How many features ``layer_features`` gives."""
    return sum(map(len, weight_rows(layer).values()))


def get_weights(layer: nn.Module, of: Part = _data) -> Tensor:
    """A copy of the layer's weights, ``(n_features, out_features)``."""
    return torch.cat(list(weight_rows(layer, of).values()))


@torch.no_grad()
def set_weights(layer: nn.Module, weights: Tensor, of: Part = _data) -> None:
    """Write ``(n_features, out_features)`` weights into the layer's parameters."""
    views = list(weight_rows(layer, of).values())
    for view, part in zip(views, weights.split([len(view) for view in views])):
        view.copy_(part)


def constant_weights(layer: Any) -> Tensor:
    """Weights with which the features add up to 1 at every ``x``, ``(n_features,)``.

    Raises: ValueError for a layer that has no constant.
    """
    anchored = isinstance(layer, KANLinear) and layer.anchor is not None
    rows = weight_rows(layer)
    shares = {"bias": 1.0, "coefficients": 1 / layer.in_features}
    if anchored or not shares.keys() & rows.keys():
        raise ValueError(
            "the layer's features have no constant among them (no bias, or anchored "
            f"splines): {layer}; take model.anchored=false or another model instead"
        )
    parts = [torch.full((len(r),), shares.get(n, 0.0)) for n, r in rows.items()]
    return torch.cat(parts)


def input_blocks(layer: Any) -> list[Tensor]:
    """Rows of the weights' matrix by the input they belong to, ``(n_blocks, size)`` each."""
    sizes = {name: len(rows) for name, rows in weight_rows(layer).items()}
    device = next(layer.parameters()).device
    rows = torch.arange(sum(sizes.values()), device=device)
    parts = rows.split(list(sizes.values()))
    numbers = dict(zip(sizes, parts))
    bias = numbers.pop("bias", None)
    per_input = [part.view(layer.in_features, -1) for part in numbers.values()]
    blocks = [torch.cat(per_input, 1)]
    return blocks if bias is None else [*blocks, bias.view(1, 1)]


def inputs_group(layer: nn.Module) -> int | None:
    """How many features in a row are an input's, in an anchored layer of splines alone.

    They add up to 0 on the grid: one is redundant.
    """
    if not isinstance(layer, KANLinear) or layer.base_weight is not None:
        return None
    return layer.coefficients.shape[1] if layer.anchor is not None else None


def _rows(layer: nn.Module) -> dict[str, Callable[[Tensor], Tensor]]:
    """How to see each parameter as rows of the weights' matrix."""
    if not has_features(layer):
        raise ValueError(
            f"features are known of KANLinear and Linear layers, got {type(layer).__name__}"
        )
    if not isinstance(layer, KANLinear):
        rows = {"weight": torch.t, "bias": lambda b: b.view(1, -1)}
    elif layer.edge_factor is None:
        rows = {
            "coefficients": lambda c: c.view(-1, c.shape[-1]),
            "base_weight": torch.t,
        }
    else:
        raise ValueError(
            "a KAN layer with a factor per edge, as pruned ones have, has no features "
            "common to its outputs; set model.standalone_scale=false instead"
        )
    return {name: f for name, f in rows.items() if getattr(layer, name) is not None}
