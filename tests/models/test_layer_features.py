"""Layers as linear maps of their features; last layers of every kind of head."""

import pytest
import torch
from torch import nn

from kancl import KAN, KANLinear
from kancl.models import MLP
from kancl.models.heads import replace_network, with_head
from kancl.models.inspect import last_layers
from kancl.models.layer_features import (
    constant_weights,
    layer_features,
    set_weights,
    weight_rows,
)


def plain(**options):
    return KANLinear(3, 4, enable_standalone_scale_spline=False, **options)


LAYERS = {
    "kan": plain,
    "no_base": lambda: plain(base=False),
    "anchored": lambda: plain(anchor=0.2),
    "clamped": lambda: plain(outside="clamp", grid_range=(0, 3)),
    "linear": lambda: nn.Linear(3, 4),
    "no_bias": lambda: nn.Linear(3, 4, bias=False),
}


@pytest.mark.parametrize("name", LAYERS)
def test_outputs_are_features_times_weights(name):
    layer, x = LAYERS[name](), 2 * torch.randn(7, 3)
    features = layer_features(layer, x)
    weights = torch.cat(list(weight_rows(layer, lambda p: p.data).values()))
    torch.testing.assert_close(features @ weights, layer(x).detach())
    drawn = torch.randn_like(weights)
    set_weights(layer, drawn)
    torch.testing.assert_close(layer(x).detach(), features @ drawn)


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_features_times_output_gradients(name):
    layer, x, delta = LAYERS[name](), torch.randn(7, 3), torch.randn(7, 4)
    layer(x).backward(delta)
    rows = torch.cat(list(weight_rows(layer, lambda p: p.grad).values()))
    torch.testing.assert_close(rows, layer_features(layer, x).T @ delta)


@pytest.mark.parametrize("name", ["no_base", "kan", "clamped", "linear"])
def test_a_constant_is_one_of_the_features(name):
    layer, x = LAYERS[name](), torch.rand(7, 3)
    one = layer_features(layer, x) @ constant_weights(layer)
    torch.testing.assert_close(one, torch.ones(7))


def test_layers_without_features_or_constant_are_refused():
    with pytest.raises(ValueError, match="model.standalone_scale=false instead"):
        layer_features(KANLinear(3, 4), torch.rand(2, 3))
    with pytest.raises(ValueError, match="KANLinear and Linear layers, got Conv2d"):
        layer_features(nn.Conv2d(1, 1, 1), torch.rand(2, 3))
    for name in ("anchored", "no_bias"):
        with pytest.raises(ValueError, match="no constant among them"):
            constant_weights(LAYERS[name]())


class Experience:
    def __init__(self, classes, task=0):
        self.classes_in_this_experience, self.task_labels = classes, [task]
        self.current_experience = 0


@pytest.mark.parametrize("make", [lambda: KAN([5, 3, 4]), lambda: MLP([5, 3, 4])])
def test_last_layers_of_every_head(make):
    single = with_head(make(), "single", 4)
    [(label, last)] = last_layers(single).items()
    assert label is None and last.layers == [single.network.layers[1]]
    assert last.classes == [[0, 1, 2, 3]] and last.n_classes == 4

    growing = with_head(make(), "growing", 4)
    growing.adaptation(Experience([1, 3]))
    growing.adaptation(Experience([0]))
    assert last_layers(growing)[None].layers == list(growing.heads)
    assert last_layers(growing)[None].classes == [[1, 3], [0]]

    multi = with_head(make(), "multi", 4)
    multi.adaptation(Experience([0, 1], task=2))
    assert last_layers(multi)[2].layers == [multi.heads["2"]]


@pytest.mark.parametrize("kind", ["single", "growing", "multi"])
def test_another_network_behind_the_same_head(kind):
    model = with_head(KAN([5, 3, 4]), kind, 4)
    if kind != "single":
        model.adaptation(Experience([1, 3], task=2))
    replace_network(model, MLP([5, 6, 4]))
    x = torch.rand(2, 5)
    y = model(x, torch.tensor([2, 2])) if kind == "multi" else model(x)
    assert y.shape == (2, 4)
    assert not any(isinstance(module, KANLinear) for module in model.modules())


def test_models_without_a_head_are_refused():
    with pytest.raises(ValueError, match="with_head, got MLP"):
        last_layers(MLP([5, 6, 4]))
    with pytest.raises(ValueError, match="with_head, got MLP"):
        replace_network(MLP([5, 6, 4]), MLP([5, 6, 4]))
