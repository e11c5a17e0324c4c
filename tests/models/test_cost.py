"""Parameters and FLOPs, worked by hand."""

import torch

from kancl import KAN, MLP
from kancl.models.cost import (
    forward_flops,
    n_active_parameters,
    n_parameters,
)


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
