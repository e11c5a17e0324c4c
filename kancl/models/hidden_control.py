"""Hidden values kept where the next layer's splines are; and few of them at a time."""

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

HiddenControl = Literal["none", "tanh", "layernorm_tanh"]

SPREAD = 0.5
"""Standard deviation of normalised hidden values: tanh then keeps them off its ends."""


def check_hidden_control(control: str, top_k: int | None = None) -> None:
    """Raises: ValueError for a kind there is not, or a ``top_k`` below 1."""
    if control not in get_args(HiddenControl):
        kinds = ", ".join(get_args(HiddenControl))
        raise ValueError(f"hidden_control must be one of {kinds}, got {control!r}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be 1 or more, or null for all, got {top_k}")


def controlled(
    hidden: Tensor, control: HiddenControl, top_k: int | None = None
) -> Tensor:
    """Hidden values ``(..., features)`` inside (-1, 1) by ``tanh``, the ``top_k`` largest.

    ``layernorm_tanh``: ``tanh(0.5 (h - mean h) / std h)`` over a sample's features; no
    gain or shift to learn, so nothing here can be forgotten. A feature alone would be 0.
    """
    if control == "layernorm_tanh":
        hidden = SPREAD * layer_norm(hidden, hidden.shape[-1:])
    return gated(hidden if control == "none" else hidden.tanh(), top_k)


def gated(hidden: Tensor, top_k: int | None) -> Tensor:
    """The ``top_k`` largest features of each sample, the others 0: ``(..., features)``.

    Samples that differ then share few active features: the separation in joint space
    that splines, local in each coordinate, do not have.
    """
    if top_k is None or top_k >= hidden.shape[-1]:
        return hidden
    largest = hidden.topk(top_k, dim=-1)
    return torch.zeros_like(hidden).scatter(-1, largest.indices, largest.values)
