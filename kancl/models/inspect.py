"""The layers of a network by name, what enters them, and its state in groups."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kancl.models.kan_linear import KANLinear
from kancl.models.layer_features import has_features

HEAD = "head"


def named_layers(model: nn.Module) -> dict[str, list[nn.Module]]:
    """KAN and linear layers: ``layer_1``, ``layer_2``, ... and, last, ``head``.

    Several heads count as one.
    """
    layers = [(n, m) for n, m in model.named_modules() if has_features(m)]
    heads = [m for n, m in layers if "heads" in n.split(".")]
    body = [m for n, m in layers if "heads" not in n.split(".")]
    if not heads and body:
        heads = [body.pop()]
    named = {f"layer_{k}": [layer] for k, layer in enumerate(body, start=1)}
    return {**named, HEAD: heads} if heads else named


def layer_inputs(
    model: nn.Module, forward: Callable[[], Tensor]
) -> tuple[dict[str, Tensor], Tensor]:
    """What enters each layer in a forward pass, and what comes out in the end.

    Of several heads, the inputs of the one that was asked, which are the same.
    """
    inputs: dict[str, Tensor] = {}
    handles = [
        layer.register_forward_pre_hook(_keep(inputs, name))
        for name, layers in named_layers(model).items()
        for layer in layers
    ]
    try:
        outputs = forward()
    finally:
        for handle in handles:
            handle.remove()
    return inputs, outputs


def _keep(inputs: dict[str, Tensor], name: str) -> Callable[..., None]:
    def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        inputs[name] = arguments[0].detach()

    return hook


@torch.no_grad()
def layer_bases(layer: nn.Module, x: Tensor) -> Tensor:
    """The bases of a KAN layer; of a linear one its inputs, one basis each.

    Shape: ``(n, in_features)`` -> ``(n, in_features, n_basis)``.
    """
    return layer.b_splines(x) if isinstance(layer, KANLinear) else x.unsqueeze(-1)


@torch.no_grad()
def layer_weights(layer: nn.Module) -> Tensor:
    """What multiplies them, a copy: ``(in_features, n_basis, out_features)``."""
    if isinstance(layer, KANLinear):
        return layer.scaled_coefficients.detach().clone()
    assert isinstance(layer, nn.Linear)
    return layer.weight.detach().T.unsqueeze(1).clone()


def state_groups(model: nn.Module) -> dict[str, list[str]]:
    """Keys of the state dict by what they belong to.

    ``layer_1``, ..., ``head``: everything of a layer; across layers ``splines`` (with
    their grids), ``base`` branches, ``weights`` and ``biases`` of linear layers; and
    ``all``. Groups without a key are left out.
    """
    names = {id(module): name for name, module in model.named_modules()}
    keys = list(model.state_dict())
    groups: dict[str, list[str]] = {}
    kinds: dict[str, list[str]] = {k: [] for k in ("splines", "base")}
    kinds |= {k: [] for k in ("weights", "biases")}
    for name, layers in named_layers(model).items():
        for layer in layers:
            prefix = f"{names[id(layer)]}." if names[id(layer)] else ""
            mine = [key for key in keys if key.startswith(prefix)]
            groups.setdefault(name, []).extend(mine)
            for key in mine:
                kinds[_kind(layer, key.removeprefix(prefix))].append(key)
    taken = {key for group in groups.values() for key in group}
    heads = [key for key in keys if key not in taken and "head_of_class" in key]
    if heads:
        groups[HEAD] += heads
    groups |= {kind: found for kind, found in kinds.items() if found}
    return {**groups, "all": keys}


def _kind(layer: nn.Module, key: str) -> str:
    if isinstance(layer, KANLinear):
        return "base" if key.startswith("base") else "splines"
    return "biases" if key == "bias" else "weights"
