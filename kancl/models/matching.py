"""Hidden widths at which one network is as large as another."""

from collections.abc import Callable, Sequence
from typing import Literal

from torch import nn

from kancl.models.cost import forward_flops, n_parameters

LARGEST_WIDTH = 2**20


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

    low, high = 1, 2
    while size(high) < target and high < LARGEST_WIDTH:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) < target else (low, middle)
    width = min((low, high), key=lambda w: abs(size(w) - target))
    return [width] * n_hidden_layers
