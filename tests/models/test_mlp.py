"""The MLP against plain torch, and what it refuses."""

import pytest
import torch
from torch import nn

from kancl import MLP


def test_equals_a_sequential() -> None:
    model = MLP([6, 5, 4, 3])
    relu = nn.ReLU()
    plain = nn.Sequential(model.layers[0], relu, model.layers[1], relu, model.layers[2])
    x = torch.randn(7, 6)
    assert torch.equal(model(x), plain(x))
    assert torch.equal(model.head(model.features(x)), model(x))
    assert model.features(x).shape == (7, model.feature_dim) == (7, 4)


def test_no_hidden_layer_is_linear() -> None:
    model = MLP([6, 3])
    x = torch.randn(7, 6)
    assert torch.equal(model(x), model.layers[0](x))
    assert torch.equal(model.features(x), x)


def test_dropout_acts_in_training_on_hidden_activations_only() -> None:
    model = MLP([6, 400, 3], dropout=0.5)
    x = torch.rand(1, 6)
    kept = (model.features(x) != 0).float().mean()
    dense = (model.eval().features(x) != 0).float().mean()
    assert 0.35 * dense < kept < 0.65 * dense
    assert torch.equal(model(x), model(x))


def test_hidden_control_bounds_what_the_relu_gets() -> None:
    x = 50 * torch.randn(7, 6)
    hidden = MLP([6, 400, 3], hidden_control="tanh").features(x)
    assert hidden.min() == 0 and 0.9 < hidden.max() <= 1


@pytest.mark.parametrize(
    ("layers", "dropout", "culprit"),
    [
        ([6], 0.0, r"\[6\]"),
        ([6, 0, 3], 0.0, r"\[6, 0, 3\]"),
        ([6, 3], 1.0, "1.0"),
        ([6, 3], -0.1, "-0.1"),
    ],
)
def test_refused(layers: list[int], dropout: float, culprit: str) -> None:
    with pytest.raises(ValueError, match=culprit):
        MLP(layers, dropout)
