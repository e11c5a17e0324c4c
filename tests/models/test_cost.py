"""Parameters and FLOPs, worked by hand; solved widths are the closest there are."""

from collections.abc import Sequence

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from kancl import KAN, MLP
from kancl.models.cost import (
    forward_flops,
    match_hidden,
    n_active_parameters,
    n_parameters,
)
from kancl.models.frozen_features import RandomPatches
from kancl.models.random_filters import RandomFilters


def test_mlp() -> None:
    model = MLP([784, 400, 400, 10])
    assert n_parameters(model) == 478_410  # as van de Ven et al. 2022 count it
    assert forward_flops(model) == 2 * (784 * 400 + 400 * 400 + 400 * 10)


def test_kan() -> None:
    # Per edge: 5 + 3 coefficients, a base weight, a scale.
    assert n_parameters(KAN([784, 64, 10])) == (784 * 64 + 64 * 10) * 10
    lean = KAN([784, 64, 10], enable_standalone_scale_spline=False, base=False)
    assert n_parameters(lean) == (784 * 64 + 64 * 10) * 8
    # Two per coefficient and edge; 3 * (degree + 1)^2 per input value for its bases.
    assert forward_flops(lean) == (784 * 64 + 64 * 10) * 16 + (784 + 64) * 48


@pytest.mark.parametrize("kind", ["relu", "spline"])
@pytest.mark.parametrize("network", [RandomFilters, RandomPatches])
def test_random_features_cost_what_torch_counts(network, kind) -> None:
    model = network(256, 3, 32, kind, torch.Generator())
    with FlopCounterMode(display=False) as counter:
        model(torch.rand(1, 256))
    assert forward_flops(model) == counter.get_total_flops()


def test_frozen_parameters_are_not_counted() -> None:
    model = MLP([4, 3, 2])
    model.layers[0].requires_grad_(False)
    assert n_parameters(model) == 3 * 2 + 2


def test_active_parameters_are_those_with_a_gradient_for_one_sample() -> None:
    torch.manual_seed(0)
    for options in [{}, {"base": False, "spline_order": 2}, {"grid_size": 2}]:
        model = KAN([7, 5, 3], grid_range=(-9, 9), **options)
        model(torch.rand(1, 7)).square().sum().backward()
        touched = sum(int((p.grad != 0).sum()) for p in model.parameters())
        assert n_active_parameters(model) == touched
    # Per edge: 3 + 1 of 5 + 3 coefficients and a base weight, no scale.
    lean = KAN([784, 64, 10], enable_standalone_scale_spline=False)
    assert n_active_parameters(lean) == (784 * 64 + 64 * 10) * 5


def test_every_parameter_of_an_mlp_is_active() -> None:
    assert n_active_parameters(MLP([4, 3, 2])) == n_parameters(MLP([4, 3, 2]))


def mlp(hidden: Sequence[int]) -> MLP:
    return MLP([784, *hidden, 10])


@pytest.mark.parametrize("by", ["params", "flops"])
@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_no_neighbour_is_closer(by: str, n_layers: int) -> None:
    measure = n_parameters if by == "params" else forward_flops
    target = measure(KAN([784, 64, 10]))
    hidden = match_hidden(mlp, n_layers, target, by)  # type: ignore[arg-type]
    assert len(hidden) == n_layers and len(set(hidden)) == 1

    def error(width: int) -> int:
        return abs(measure(mlp([width] * n_layers)) - target)

    assert error(hidden[0]) < min(error(hidden[0] - 1), error(hidden[0] + 1))
    assert error(hidden[0]) < 0.005 * target


def test_a_kan_can_be_matched_to_an_mlp() -> None:
    target = n_parameters(MLP([784, 400, 400, 10]))
    hidden = match_hidden(lambda h: KAN([784, *h, 10]), 1, target, "params")
    # 794 edges per hidden unit, 10 parameters each: 478,410 / 7,940 = 60.25
    assert hidden == [60]


def test_exact_sizes_are_found_again() -> None:
    for width in (1, 2, 3, 100):
        target = n_parameters(mlp([width]))
        assert match_hidden(mlp, 1, target, "params") == [width]


def test_nothing_to_solve_is_refused() -> None:
    with pytest.raises(ValueError, match="hidden"):
        match_hidden(mlp, 0, 1000, "params")
