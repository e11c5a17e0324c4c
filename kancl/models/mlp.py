"""The baseline: a multilayer perceptron."""

from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor, nn

from kancl.config.values import Count, Share
from kancl.models.hidden_control import (
    HiddenControl,
    check_hidden_control,
    controlled,
    gated,
)
from kancl.models.inputs import flat
from kancl.models.spline_activation import SplineActivation

Activation = Literal["relu", "spline"]
Init = Literal["torch", "xavier"]


class MLP(nn.Module):
    """Linear layers with ReLU, and dropout, between them.

    Args:
        layers: sizes from inputs to outputs, ``[784, 400, 400, 10]``.
        dropout: share of hidden activations dropped while training.
        hidden_control: bounds the values before the ReLU, as in ``KAN``.
        top_k: so many hidden values of a layer are not 0; None: all.
        activation: ``relu``, or ``spline``: a learned function per hidden unit.
        init: first weights: as ``nn.Linear`` draws them, or ``xavier``: uniform within
            ``sqrt(6 / (inputs + outputs))`` (Glorot, Bengio 2010, eq. 16), biases 0.
    Shape: ``(..., layers[0])`` -> ``(..., layers[-1])``; images, ``(batch, ...)`` of as
        many values each, are flattened.
    Raises: ValueError for fewer than two sizes, a size below 1, a ``dropout`` outside
        [0, 1), or another ``activation`` or ``init``.
    Source: the baselines of van de Ven, Tuytelaars, Tolias 2022, Nature Machine
        Intelligence 4, 1185-1197 (no dropout there).

    >>> MLP([784, 400, 400, 10])(torch.rand(2, 784)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        layers: Sequence[int],
        dropout: float = 0.0,
        hidden_control: HiddenControl = "none",
        top_k: int | None = None,
        activation: Activation = "relu",
        init: Init = "torch",
    ) -> None:
        super().__init__()
        if len(layers) < 2 or min(layers) < 1:
            raise ValueError(
                f"layers must be at least two sizes of at least 1, got {list(layers)}"
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")
        if activation not in get_args(Activation):
            raise ValueError(f"activation must be relu or spline, got {activation!r}")
        if init not in get_args(Init):
            raise ValueError(f"init must be torch or xavier, got {init!r}")
        check_hidden_control(hidden_control, top_k)
        self.hidden_control, self.top_k = hidden_control, top_k
        self._linear = _xavier_linear if init == "xavier" else nn.Linear
        self.layers = nn.ModuleList(map(self._linear, layers, layers[1:]))
        self.activations = nn.ModuleList(
            SplineActivation(n) if activation == "spline" else nn.ReLU()
            for n in layers[1:-1]
        )
        self.dropout = nn.Dropout(dropout)
        self._n_hidden = len(layers) - 2
        self.in_features, self.feature_dim = layers[0], layers[-2]

    @property
    def head(self) -> nn.Module:
        """The last layer."""
        return self.layers[-1]

    def features(self, x: Tensor) -> Tensor:
        """Everything before the last layer: ``(..., in)`` -> ``(..., feature_dim)``."""
        x = flat(x, self.in_features)
        for layer, activation in zip(self.layers, self.activations):
            x = activation(controlled(layer(x), self.hidden_control))
            x = self.dropout(gated(x, self.top_k))
        return x

    def make_head(self, n_outputs: int) -> nn.Module:
        """A fresh last layer on ``features``."""
        return self._linear(self.feature_dim, n_outputs)

    def remove_head(self) -> None:
        """Drop the last layer for good: ``features`` goes on working."""
        self.layers = self.layers[: self._n_hidden]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def mlp(
    in_features: int,
    n_outputs: int,
    *,
    input_range: tuple[float, float] = (0, 1),
    hidden: Sequence[Count] = (400, 400),
    dropout: Share = 0.0,
    hidden_control: HiddenControl = "none",
    top_k: Count | None = None,
    activation: Activation = "relu",
    init: Init = "torch",
) -> MLP:
    """MLP with ReLU, any hidden sizes and dropout.

    Args:
        input_range: ignored; KANs need it.
        hidden: sizes of the hidden layers, ``[]`` for a linear model.
        dropout: share of hidden activations dropped while training.
        hidden_control: bounds the values before the ReLU, as in ``kan``.
        top_k: so many hidden values of a layer are not 0; null: all.
        activation: relu, or spline: a learned function per hidden unit.
        init: first weights: torch (as nn.Linear draws them), or xavier (Glorot's uniform
            ones, biases 0).
    """
    layers = [in_features, *hidden, n_outputs]
    return MLP(layers, dropout, hidden_control, top_k, activation, init)


def _xavier_linear(n_inputs: int, n_outputs: int) -> nn.Linear:
    layer = nn.Linear(n_inputs, n_outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
