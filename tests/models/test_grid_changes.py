"""A layer's function, and training, before and after its grid has changed."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kancl import KANLinear
from kancl.models.grid_changes import grow, refine
from kancl.plugins.penalties.anchor import QuadraticAnchor, values

POLICIES = ["zero", "clamp", "linear"]
OPTIMIZERS: dict[str, Any] = {
    "momentum": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.005),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.005, amsgrad=True),
    "fused": lambda p: torch.optim.Adam(p, lr=0.005, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.005, momentum=0.5, centered=True),
}


def layer_with(degree: int = 3, **options: Any) -> KANLinear:
    layer = KANLinear(3, 2, 5, degree, **options)
    nn.init.normal_(layer.coefficients)
    return layer


def dense_sample(reach: float = 4.0) -> Tensor:
    return torch.linspace(-reach, reach, 2001).unsqueeze(1).expand(-1, 3)


def function(layer: KANLinear, x: Tensor) -> Tensor:
    """What the float32 layer stands for, without the rounding of its own forward."""
    return copy.deepcopy(layer).double()(x.double()).detach()


def train(
    layer: KANLinear, optimizer: torch.optim.Optimizer, n_steps: int, seed: int = 0
) -> list[float]:
    """Losses of learning sums of sines, on and slightly off the grid."""
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for _ in range(n_steps):
        x = 2.4 * torch.rand(64, 3, generator=generator) - 1.2
        y = torch.stack([(3 * x).sin().sum(1), (2 * x).cos().sum(1)], 1)
        loss = (layer(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@settings(max_examples=30)
@given(
    st.integers(1, 5),
    st.sampled_from(POLICIES),
    st.integers(2, 3),
    st.booleans(),
    st.booleans(),
)
def test_refining_keeps_a_float32_layer_to_1e6(
    degree: int, outside: Any, factor: int, scaled: bool, base: bool
) -> None:
    layer = layer_with(
        degree, outside=outside, enable_standalone_scale_spline=scaled, base=base
    )
    x = dense_sample()
    before, rounded = function(layer, x), layer(x)
    parameter = layer.coefficients
    refine(layer, factor)
    size = max(1, float(before.abs().max()))
    assert (function(layer, x) - before).abs().max() < 1e-6 * size
    assert (layer(x) - rounded).abs().max() < 2e-6 * size
    assert layer.uniform and layer.coefficients is parameter
    wider = 2 * degree * (factor - 1) if outside == "zero" else 0
    assert layer.grid_size == 5 * factor + wider


@settings(max_examples=30)
@given(st.integers(1, 5), st.sampled_from(POLICIES), st.floats(0, 2), st.floats(0, 2))
def test_growing_keeps_a_float32_layer_to_1e6(
    degree: int, outside: Any, left: float, right: float
) -> None:
    layer = layer_with(degree, outside=outside)
    x = dense_sample(6.0)
    before, rounded = function(layer, x), layer(x)
    grow(layer, -1 - left, 1 + right)
    size = max(1, float(before.abs().max()))
    assert (function(layer, x) - before).abs().max() < 1e-6 * size
    assert (layer(x) - rounded).abs().max() < 2e-6 * size
    assert layer.off_grid_share(torch.tensor([[-1 - left + 1e-4] * 3])) == 0
    assert layer.off_grid_share(torch.tensor([[1 + right - 1e-4] * 3])) == 0
    if outside == "zero":
        assert layer.uniform


@pytest.mark.parametrize("outside", POLICIES)
def test_anchored_warped_and_per_feature_grids(outside: Any) -> None:
    ranges = torch.tensor([[-1.0, 1.0], [0.0, 0.3], [-3.0, 2.0]])
    layer = layer_with(outside=outside, anchor=0.1, grid_range=ranges).double()
    x = dense_sample().double()
    before = layer(x)
    size = before.detach().abs().max()
    grow(layer, -1.1, 1.5)
    assert (layer(x) - before).abs().max() < 1e-12 * size
    layer = layer_with(outside=outside, anchor=0.1, grid_range=ranges).double()
    layer.warp_grid(torch.randn(300, 3).double().square())
    before = layer(x)
    refine(layer, 3)
    assert (layer(x) - before).abs().max() < 1e-12 * size
    assert layer.uniform
    with pytest.raises(ValueError, match="a warped grid can't grow"):
        grow(layer, -4, 4)


@pytest.mark.parametrize("outside", POLICIES)
def test_double_precision_to_rounding(outside: Any) -> None:
    layer = layer_with(outside=outside).double()
    x = dense_sample().double()
    before = layer(x)
    refine(layer, 2)
    grow(layer, -2.5, 1.7)
    refine(layer, 2)
    assert (layer(x) - before).abs().max() < 1e-12 * before.detach().abs().max()


def test_the_grid_after_update_grid_as_well() -> None:
    layer = layer_with()
    layer.update_grid(torch.rand(300, 3) ** 2)
    assert not layer.uniform
    x = dense_sample()
    before = layer(x)
    refine(layer, 2)
    grow(layer, -3, 2)
    assert (layer(x) - before).abs().max() < 2e-6 * before.detach().abs().max()


def test_growing_to_what_is_covered_changes_nothing() -> None:
    layer = layer_with()
    state = copy.deepcopy(layer.state_dict())
    grow(layer, -0.5, 1.0)
    for name, value in layer.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=1e-7)


def changed(layer: KANLinear, optimizer: torch.optim.Optimizer, how: str) -> None:
    if how == "refine":
        refine(layer, 2, optimizer)
    else:
        grow(layer, -1.5, 1.5, optimizer)


@pytest.mark.parametrize("how", ["refine", "grow"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_without_a_jump(name: str, how: str) -> None:
    layer = layer_with()
    optimizer = OPTIMIZERS[name](layer.parameters())
    train(layer, optimizer, 150)
    twin = copy.deepcopy(layer)
    expected = OPTIMIZERS[name](twin.parameters())
    expected.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    changed(layer, optimizer, how)
    assert layer.coefficients.shape != twin.coefficients.shape
    for value in optimizer.state[layer.coefficients].values():
        if isinstance(value, Tensor) and value.dim():
            assert value.stride() == layer.coefficients.stride()
    found = train(layer, optimizer, 12, seed=1)
    usual = train(twin, expected, 12, seed=1)
    assert found[0] == pytest.approx(usual[0], rel=1e-5)
    assert max(found) < 1.25 * max(usual)


def test_momentum_alone_moves_the_function_as_before() -> None:
    layer = layer_with()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    train(layer, optimizer, 20)
    twin = copy.deepcopy(layer)
    expected = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9)
    expected.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    refine(layer, 3, optimizer)
    for each, stepping in ((layer, optimizer), (twin, expected)):
        for parameter in each.parameters():
            parameter.grad = torch.zeros_like(parameter)
        for _ in range(5):
            stepping.step()
    x = dense_sample()
    assert (layer(x) - twin(x)).abs().max() < 5e-6


def test_state_without_a_rule_is_refused_and_nothing_has_changed() -> None:
    layer = layer_with()
    optimizer = torch.optim.Adadelta(layer.parameters())
    train(layer, optimizer, 2)
    with pytest.raises(ValueError, match="'acc_delta' of Adadelta has no rule"):
        refine(layer, 2, optimizer)
    assert layer.grid_size == 5
    optimizer.state.clear()
    refine(layer, 2, optimizer)
    train(layer, optimizer, 2)


def test_an_anchor_goes_along() -> None:
    layer = layer_with(outside="clamp")
    anchor = QuadraticAnchor()
    centre = values(layer)
    ones = {name: torch.full_like(p, 2.0) for name, p in centre.items()}
    anchor.move(ones, to=centre)
    with torch.no_grad():
        layer.coefficients += 0.3  # a drift that all coefficients share
    before = anchor.penalty(layer)
    anchor.carry("coefficients", grow(layer, -1.2, 1.2))
    anchor.carry("coefficients", refine(layer, 2))
    torch.testing.assert_close(anchor.penalty(layer), before)
