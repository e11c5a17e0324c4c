"""The MLP against plain torch, and what it refuses."""

import pytest
import torch
from torch import nn

from kancl import MLP
from kancl.models.cost import forward_flops, n_parameters
from kancl.models.spline_activation import SplineActivation


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


def test_a_learned_activation_can_be_the_identity_and_starts_as_a_relu() -> None:
    activation = SplineActivation(3)
    x = torch.linspace(-6, 6, 121).repeat(3, 1).T  # (121, 3), in and out of the grid
    assert activation(x).shape == x.shape
    assert (activation(x) - x.relu()).abs().max() < 0.1
    assert torch.equal(activation(x)[x < -4], torch.zeros_like(x[x < -4]))
    with torch.no_grad():  # splines reproduce straight lines
        activation.coefficients[1] = activation.centres()
    torch.testing.assert_close(activation(x)[:, 1], x[:, 1], rtol=0, atol=1e-5)
    assert (activation(x)[:, 2] - x[:, 2].relu()).abs().max() < 0.1  # its own


def test_learned_activations_are_parameters_that_cost_and_learn() -> None:
    relu, spline = MLP([6, 5, 4, 3]), MLP([6, 5, 4, 3], activation="spline")
    n_bases = 16 + 3
    assert n_parameters(spline) - n_parameters(relu) == (5 + 4) * n_bases
    per_unit = 2 * n_bases + 3 * 4**2
    assert forward_flops(spline) - forward_flops(relu) == (5 + 4) * per_unit
    spline(torch.rand(8, 6)).square().sum().backward()
    for activation in spline.activations:
        assert activation.coefficients.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="relu or spline, got 'tanh'"):
        MLP([6, 5, 3], activation="tanh")  # type: ignore[arg-type]


def test_first_weights_are_torchs_or_glorots() -> None:
    torch.manual_seed(0)
    plain = nn.Linear(200, 100)
    torch.manual_seed(0)
    assert torch.equal(MLP([200, 100]).head.weight, plain.weight)
    network = MLP([200, 100, 50], init="xavier")
    for layer in (*network.layers, network.make_head(30)):
        bound = (6 / sum(layer.weight.shape)) ** 0.5
        assert 0.99 * bound < layer.weight.abs().max() <= bound
        assert torch.equal(layer.bias, torch.zeros_like(layer.bias))
    with pytest.raises(ValueError, match="init must be torch or xavier, got 'he'"):
        MLP([2, 2], init="he")
