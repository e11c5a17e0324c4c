"""Hidden values kept where the next layer's splines are."""

from typing import Literal, get_args

from torch import Tensor
from torch.nn.functional import layer_norm

HiddenControl = Literal["none", "tanh", "layernorm_tanh"]

SPREAD = 0.5
"""Standard deviation of normalised hidden values: tanh then keeps them off its ends."""


def check_hidden_control(control: str) -> None:
    """Raises: ValueError for a kind there is not."""
    if control not in get_args(HiddenControl):
        kinds = ", ".join(get_args(HiddenControl))
        raise ValueError(f"hidden_control must be one of {kinds}, got {control!r}")


def controlled(hidden: Tensor, control: HiddenControl) -> Tensor:
    """Hidden values inside (-1, 1), by ``tanh``, after a normalisation if asked for.

    ``layernorm_tanh``: ``tanh(0.5 (h - mean h) / std h)`` over a sample's features; no
    gain or shift to learn, so nothing here can be forgotten. One feature alone would be
    0 whatever it was.

    Shape: ``(..., features)`` -> the same.
    """
    if control == "none":
        return hidden
    if control == "layernorm_tanh":
        hidden = SPREAD * layer_norm(hidden, hidden.shape[-1:])
    return hidden.tanh()
