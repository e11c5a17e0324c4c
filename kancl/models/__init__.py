"""Networks: the spline layer, the KAN, the MLP; what they cost, and equal sizes.

``MODELS`` names the builders that runs know. ``heads`` and ``inspect`` import Avalanche,
so they are not imported here.
"""

from collections.abc import Callable

from torch import nn

from kancl.models.kan import KAN, kan
from kancl.models.kan_linear import KANLinear
from kancl.models.mlp import MLP, mlp

MODELS: dict[str, Callable[..., nn.Module]] = {
    "kan": kan,
    "mlp": mlp,
}
