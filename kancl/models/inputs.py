"""Images as networks of layers take them."""

from torch import Tensor


def flat(x: Tensor, in_features: int) -> Tensor:
    """Flatten samples of ``in_features`` values, ``(batch, ...)`` -> ``(batch, in)``.

    What ends in ``in_features`` values, ``(..., in_features)``, stays as it is, and so does
    what has another number of values: the first layer refuses it.
    """
    if x.shape[-1] == in_features or x.shape[1:].numel() != in_features:
        return x
    return x.flatten(1)
