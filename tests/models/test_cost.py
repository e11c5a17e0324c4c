"""Parameters and FLOPs, worked by hand."""

from kancl import KAN, MLP
from kancl.models.cost import forward_flops, n_parameters, training_flops


def test_mlp() -> None:
    model = MLP([784, 400, 400, 10])
    assert n_parameters(model) == 478_410  # as van de Ven et al. 2022 count it
    assert forward_flops(model) == 2 * (784 * 400 + 400 * 400 + 400 * 10)
    assert training_flops(model) == 3 * forward_flops(model)


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
