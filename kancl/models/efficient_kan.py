"""The names and shapes under which efficient-kan keeps the same splines."""

from typing import Any

from torch import Tensor

NAMES = {"coefficients": "spline_weight", "edge_scale": "spline_scaler"}
"""Ours, ``(in, n_basis, out)`` and ``(in, out)``: theirs, ``(out, in, n_basis)`` and
``(out, in)``."""


def rename_from_efficient_kan(state_dict: dict[str, Any], prefix: str) -> None:
    """Bring one layer's entries under our names and into our shapes, in place."""
    for ours, theirs in NAMES.items():
        tensor = state_dict.pop(prefix + theirs, None)
        if tensor is not None:
            order = (1, 2, 0) if tensor.dim() == 3 else (1, 0)
            state_dict[prefix + ours] = tensor.permute(order)


def for_efficient_kan(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """A network's state under efficient-kan's names and in its shapes.

    Raises: ValueError if bases are anchored or warped, which it doesn't know.
    """
    beyond = [name for name in state_dict if name.endswith((".anchor", ".warp"))]
    if beyond:
        raise ValueError(f"efficient-kan has no {beyond[0]}: its splines differ")
    renamed = {}
    for name, tensor in state_dict.items():
        path, _, ours = name.rpartition(".")
        if ours in NAMES:
            order = (2, 0, 1) if tensor.dim() == 3 else (1, 0)
            tensor = tensor.permute(order).contiguous()
        renamed[f"{path}.{NAMES.get(ours, ours)}"] = tensor
    return renamed
