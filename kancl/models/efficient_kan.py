"""State of other layers: efficient-kan's names and shapes, other grid sizes."""

from typing import Any

import torch
from torch import Tensor

# Ours, ``(in, n_basis, out)`` and ``(in, out)``: theirs, with ``out`` first.
NAMES = {"coefficients": "spline_weight", "edge_scale": "spline_scaler"}


def for_efficient_kan(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """A network's state under efficient-kan's names and in its shapes.

    Raises: ValueError if bases are anchored or warped, or edges pruned, which it doesn't
        know.
    """
    ours_alone = (".anchor", ".warp", ".edge_mask")
    beyond = [name for name in state_dict if name.endswith(ours_alone)]
    if beyond:
        raise ValueError(f"efficient-kan has no {beyond[0]}: its splines differ")
    renamed = {}
    for name, tensor in state_dict.items():
        path, _, ours = name.rpartition(".")
        if ours in NAMES:
            tensor = tensor.movedim(-1, 0).contiguous()
        renamed[f"{path}.{NAMES.get(ours, ours)}"] = tensor
    return renamed


def adapt_to_state_dict(
    layer: Any, state_dict: dict[str, Any], prefix: str
) -> str | None:
    """Rename efficient-kan's entries of a layer in the state, and bring both together.

    The layer takes the state's grid size, the state the layer's kind of scale.

    Returns: why that can't be, if the degrees differ.
    """
    for ours, theirs in NAMES.items():
        if (tensor := state_dict.pop(prefix + theirs, None)) is not None:
            state_dict[prefix + ours] = tensor.movedim(0, -1)
    names = f"{prefix}grid", f"{prefix}coefficients", f"{prefix}edge_scale"
    knots, coefficients, scale = map(state_dict.get, names)
    if knots is None or coefficients is None:
        return None
    degree = knots.shape[-1] - 1 - coefficients.shape[1]
    if degree != layer.spline_order:
        return (
            f"{prefix or 'state_dict: '}grid and splines are those of degree {degree}, "
            f"this layer has degree {layer.spline_order}: build it with "
            f"spline_order={degree}"
        )
    if knots.shape[-1] != layer.grid.shape[1]:
        layer.grid = layer.grid.new_empty(layer.in_features, knots.shape[-1])
        shape = layer.in_features, coefficients.shape[1], layer.out_features
        layer.coefficients.data = layer.coefficients.data.new_empty(shape)
    if scale is not None and layer.edge_scale is None:
        state_dict[names[1]] = coefficients * scale.unsqueeze(1)
        del state_dict[names[2]]
    if scale is None and layer.edge_scale is not None:
        state_dict[names[2]] = torch.ones_like(coefficients[:, 0])
    return None
