"""Networks: the spline layer, the KAN, the MLP; what they cost, and equal sizes.

``MODELS`` names the builders that runs know. Heads that Avalanche adapts are in
``kancl.models.heads``, apart, since they import Avalanche.
"""

from collections.abc import Callable

from torch import nn

from kancl.models.kan import KAN, kan, kan_local
from kancl.models.kan_linear import KANLinear
from kancl.models.mlp import MLP, mlp

MODELS: dict[str, Callable[..., nn.Module]] = {
    "kan": kan,
    "mlp": mlp,
    "kan_local": kan_local,
}


__all__ = [
    "KAN",
    "KANLinear",
    "MLP",
    "MODELS",
    "kan",
    "kan_local",
    "mlp",
]
