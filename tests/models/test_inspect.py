"""Layers by name, what enters them, their bases and weights; evaluation in chunks."""

import pytest
import torch
from avalanche.models import avalanche_forward
from torch import nn

from kancl.models import KAN, MLP
from kancl.models.heads import with_head
from kancl.models.inspect import (
    eval_mode,
    evaluate_in_chunks,
    kan_layers,
    layer_bases,
    layer_inputs,
    layer_weights,
    named_layers,
    off_grid_shares,
    shown_name,
    spline_network,
)


def test_names_go_from_the_inputs_to_the_head():
    network = MLP([6, 5, 4, 3])
    assert named_layers(network) == {
        "layer_1": [network.layers[0]],
        "layer_2": [network.layers[1]],
        "head": [network.layers[2]],
    }
    assert list(named_layers(KAN([6, 4]))) == ["head"]
    several = with_head(KAN([6, 5, 4]), "multi", 2)
    several._add_heads(["0", "1"])
    assert named_layers(several)["head"] == list(several.heads.values())
    assert list(named_layers(several)) == ["layer_1", "head"]
    assert named_layers(nn.ReLU()) == {}


def test_inputs_bases_and_weights_give_the_layer_back():
    torch.manual_seed(0)
    x = torch.rand(8, 6)
    for network in (KAN([6, 5, 4], base=False), MLP([6, 5, 4])):
        inputs, outputs = layer_inputs(network, lambda: network(x))
        assert torch.equal(outputs, network(x))
        assert torch.equal(inputs["layer_1"], x)
        layers = named_layers(network)
        bases = layer_bases(layers["head"][0], inputs["head"])
        weights = layer_weights(layers["head"][0])
        again = torch.einsum("nig,igo->no", bases, weights)
        if isinstance(network, MLP):
            again = again + network.head.bias
        assert torch.allclose(again, outputs, atol=1e-5)
        assert not layers["head"][0]._forward_pre_hooks


def test_names_as_shown():
    network = with_head(KAN([6, 5, 4]), "single", 4)
    assert list(kan_layers(network)) == ["network.layers.0", "network.layers.1"]
    assert shown_name(network, "network.layers.1") == "head"
    assert spline_network(network) is network.network
    assert spline_network(MLP([6, 4])) is None


@pytest.mark.parametrize("make", [lambda: KAN([6, 5, 4]), lambda: MLP([6, 5, 4])])
@pytest.mark.parametrize("kind", ["single", "multi"])
def test_chunks_in_evaluation_mode_give_every_row_its_outputs(make, kind):
    torch.manual_seed(0)
    model = with_head(make(), kind, 4)
    if kind == "multi":
        model._add_heads(["0", "2"])
    dropout = model.network.dropout if isinstance(model.network, MLP) else model
    model.train()
    dropout.eval()
    modes = [module.training for module in model.modules()]
    x, labels = torch.rand(9, 6), torch.tensor([2, 0, 0, 2, 0, 0, 2, 0, 0])
    outputs = torch.full((9, 4), torch.nan)
    sizes = []
    for rows, part in evaluate_in_chunks(model, x, labels, chunk=4):
        assert not any(module.training for module in model.modules())
        assert not part.requires_grad and torch.is_grad_enabled()
        outputs[rows] = part
        sizes.append(len(rows))
    assert sizes == [4, 2, 3]
    assert [module.training for module in model.modules()] == modes
    for row in range(9):
        expected = avalanche_forward(model, x[row : row + 1], int(labels[row]))[0]
        torch.testing.assert_close(outputs[row], expected)


def test_modes_come_back_after_an_error():
    model = MLP([6, 4])
    with pytest.raises(RuntimeError), eval_mode(model):
        model(torch.rand(2, 5))
    assert all(module.training for module in model.modules())


def test_off_grid_shares_count_several_heads_as_one_layer():
    model = with_head(
        KAN([2, 3, 4], grid_range=(-1, 1), input_range=(0, 1)), "multi", 2
    )
    model._add_heads(["0", "1"])
    x = torch.tensor([[0.5, 2.0], [0.1, -1.0]])
    first, last = off_grid_shares(model, x)
    assert first == 0.5
    hidden = model.network.features(x)
    assert last == ((hidden < -1) | (hidden > 1)).double().mean().item()
    assert off_grid_shares(MLP([2, 3, 4]), x) == []
