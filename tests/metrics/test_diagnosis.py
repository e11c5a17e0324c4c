"""Putting parameters back, on numbers worked by hand."""

import pytest
import torch
from torch import nn

from kancl.metrics.diagnosis import rollback, rolled_back
from kancl.models import KAN, MLP
from kancl.models.grid_changes import refine
from kancl.models.heads import with_head
from kancl.models.inspect import state_groups


def line(weight, bias):
    layer = nn.Linear(1, 1)
    layer.load_state_dict(
        {"weight": torch.tensor([[weight]]), "bias": torch.tensor([bias])}
    )
    return nn.Sequential(layer)


def test_each_group_alone_by_hand():
    now, then = line(2.0, 3.0), line(1.0, 0.5)
    back = rollback(now, then.state_dict(), lambda m: m(torch.tensor([[5.0]])).item())
    assert back.now == 13.0 and back.then == 5.5
    assert back.regained == {"head": 5.5, "weights": 8.0, "biases": 10.5, "all": 5.5}
    assert back.forgotten == -7.5
    assert back.share("weights") == pytest.approx(5.0 / 7.5)
    assert now(torch.tensor([[5.0]])).item() == 13.0  # as it was
    same = rollback(now, now.state_dict(), lambda m: 1.0)
    assert same.share("weights") is None


@pytest.mark.parametrize(
    "network", [KAN([6, 5, 4]), KAN([6, 4], base=False), MLP([6, 7, 5, 4])]
)
def test_all_put_back_is_the_old_network_to_the_bit(network):
    x = torch.rand(9, 6)
    old = network(x)
    then = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    groups = state_groups(network)
    assert torch.equal(rolled_back(network, then, groups["all"])(x), old)
    for name, keys in groups.items():
        back = rolled_back(network, then, keys)
        for key, value in back.state_dict().items():
            expected = then if key in keys else network.state_dict()
            assert torch.equal(value, expected[key]), (name, key)


def test_groups_of_a_kan_and_an_mlp():
    kan = state_groups(KAN([6, 5, 4]))
    assert list(kan) == ["layer_1", "head", "splines", "base", "all"]
    assert kan["base"] == ["layers.0.base_weight", "layers.1.base_weight"]
    assert {k.split(".")[2] for k in kan["splines"]} == {
        "coefficients",
        "edge_scale",
        "grid",
    }
    assert set(kan["layer_1"]) | set(kan["head"]) == set(kan["all"])
    assert list(state_groups(MLP([6, 7, 5, 4]))) == [
        "layer_1",
        "layer_2",
        "head",
        "weights",
        "biases",
        "all",
    ]


def test_a_head_that_came_later_is_gone_again():
    class Experience:
        current_experience = 0

        def __init__(self, classes):
            self.classes_in_this_experience = classes

    model = with_head(KAN([6, 5, 4]), "growing", 4)
    x = torch.rand(3, 6)
    model.adaptation(Experience([0, 1]))
    old = model(x)
    then = {key: value.clone() for key, value in model.state_dict().items()}
    model.adaptation(Experience([2, 3]))
    assert not torch.equal(model(x), old)
    groups = state_groups(model)
    assert torch.equal(rolled_back(model, then, groups["head"])(x), old)
    assert torch.equal(rolled_back(model, then, groups["all"])(x), old)
    assert len(model.heads) == 2


def test_a_grid_that_grew_shrinks_with_its_splines():
    network = KAN([6, 4], enable_standalone_scale_spline=False)
    x = torch.rand(9, 6)
    old = network(x)
    then = {key: value.clone() for key, value in network.state_dict().items()}
    refine(network.layers[0])
    back = rolled_back(network, then, state_groups(network)["splines"])
    assert torch.equal(back(x), old)
    assert network.layers[0].grid_size > 5 and back.layers[0].grid_size == 5
