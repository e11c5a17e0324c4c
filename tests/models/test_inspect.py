"""Layers by name, what enters them, and their bases and weights."""

import torch
from torch import nn

from kancl.models import KAN, MLP
from kancl.models.heads import with_head
from kancl.models.named_layers import (
    layer_bases,
    layer_inputs,
    layer_weights,
    named_layers,
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
