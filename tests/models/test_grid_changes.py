"""A layer's function, and training, before and after its grid has changed."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from kancl import KANLinear
from kancl.models.grid_changes import grow, refine, resize
from kancl.models.inspect import trainable
from kancl.plugins.penalties.anchor import QuadraticAnchor, values

POLICIES = ["zero", "clamp", "linear"]
OPTIMIZERS: dict[str, Any] = {
    "momentum": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.005),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.005, amsgrad=True),
    "fused": lambda p: torch.optim.Adam(p, lr=0.005, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.005, momentum=0.5, centered=True),
    "adadelta": lambda p: torch.optim.Adadelta(p, lr=0.1),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.005),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
    "adamax": lambda p: torch.optim.Adamax(p, lr=0.005),
    "asgd": lambda p: torch.optim.ASGD(p, lr=0.02),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.005),
    "radam": lambda p: torch.optim.RAdam(p, lr=0.005),
    "rprop": lambda p: torch.optim.Rprop(p, lr=0.001, etas=(0.5, 1.05)),
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
    train(layer, optimizer, 60)
    twin = copy.deepcopy(layer)
    expected = OPTIMIZERS[name](twin.parameters())
    expected.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    changed(layer, optimizer, how)
    assert layer.coefficients.shape != twin.coefficients.shape
    for value in optimizer.state[layer.coefficients].values():
        if isinstance(value, Tensor) and value.shape == layer.coefficients.shape:
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
    optimizer.state[layer.coefficients]["lookahead"] = layer.coefficients.detach() + 1
    with pytest.raises(ValueError, match="'lookahead' of Adadelta has no rule"):
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
    before = anchor.penalty(trainable(layer))
    anchor.carry("coefficients", grow(layer, -1.2, 1.2))
    anchor.carry("coefficients", refine(layer, 2))
    torch.testing.assert_close(anchor.penalty(trainable(layer)), before)


@settings(max_examples=30)
@given(st.integers(1, 5), st.sampled_from(POLICIES), st.integers(2, 4), st.booleans())
def test_nested_grids_keep_the_function(
    degree: int, outside: Any, factor: int, moved: bool
) -> None:
    layer = layer_with(degree, outside=outside)
    if moved:
        layer.update_grid(torch.rand(300, 3) ** 2)
    grid = layer.spline_grid
    low, high = float(grid.low.max()), float(grid.high.min())
    x = dense_sample().clamp(low, high) if outside == "zero" else dense_sample()
    before, parameter = function(layer, x), layer.coefficients
    insertion = resize(layer, 5 * factor)
    size = max(1, float(before.abs().max()))
    assert (function(layer, x) - before).abs().max() < 1e-6 * size
    assert insertion.error == 0 and layer.coefficients is parameter
    assert layer.grid_size == 5 * factor and layer.uniform == grid.uniform
    assert torch.equal(layer.spline_grid.low, grid.low)
    assert torch.equal(layer.spline_grid.high, grid.high)


@torch.no_grad()
@pytest.mark.parametrize("outside", POLICIES)
@pytest.mark.parametrize("sizes", [(3, 5), (5, 3), (10, 4), (4, 4), (5, 7), (7, 1)])
def test_other_grids_get_the_nearest_function(
    sizes: tuple[int, int], outside: Any
) -> None:
    ranges = torch.tensor([[-1.0, 1.0], [0.0, 0.3], [-3.0, 2.0]])
    layer = KANLinear(3, 2, sizes[0], grid_range=ranges, outside=outside, base=False)
    nn.init.normal_(layer.coefficients)
    layer = layer.double()
    x = ranges[:, 0] + torch.linspace(0, 1, 4001).unsqueeze(1) * ranges.diff(dim=1).T
    basis = layer.b_splines(x.double()).transpose(0, 1)
    old = basis @ layer.scaled_coefficients
    error = resize(layer, sizes[1]).error
    basis = layer.b_splines(x.double()).transpose(0, 1)
    best = torch.linalg.lstsq(basis, old).solution
    new = basis @ layer.scaled_coefficients
    change, least = ((f - old).square().mean((1, 2)) for f in (new, basis @ best))
    assert (change <= 1.05 * least + 1e-12).all()
    relative = (change / old.square().mean((1, 2))).sqrt()
    assert error == pytest.approx(float(relative.max()), rel=0.1, abs=1e-6)


def test_a_warped_grid_keeps_its_function_on_a_finer_one() -> None:
    layer = layer_with(outside="linear", anchor=0.1).double()
    layer.warp_grid(torch.randn(300, 3).double().square())
    x = dense_sample().double()
    before = layer(x)
    resize(layer, 15)
    torch.testing.assert_close(layer(x), before, rtol=1e-10, atol=1e-10)


def test_lbfgs_trains_on_after_the_grid_has_changed() -> None:
    torch.manual_seed(0)
    layer = layer_with()
    optimizer = torch.optim.LBFGS(layer.parameters(), line_search_fn="strong_wolfe")
    x = 2 * torch.rand(200, 3) - 1
    y = torch.stack([(3 * x).sin().sum(1), (2 * x).cos().sum(1)], 1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (layer(x) - y).square().mean()
        loss.backward()
        return loss.detach()

    losses = [float(optimizer.step(closure)) for _ in range(3)]
    resize(layer, 10, optimizer)
    assert float(closure()) < losses[-1]
    for _ in range(3):
        optimizer.step(closure)
    assert float(closure()) < 0.5 * losses[-1]


def test_schedulers_and_averages_live_on() -> None:
    layer = layer_with()
    average = torch.optim.swa_utils.AveragedModel(layer)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    train(layer, optimizer, 5)
    average.update_parameters(layer)
    resize(layer, 10, optimizer)
    resize(average.module, 10)
    scheduler.step()
    train(layer, optimizer, 5)
    average.update_parameters(layer)
    assert optimizer.param_groups[0]["lr"] == 0.005
    assert any(layer.coefficients is p for p in optimizer.param_groups[0]["params"])
    twin = copy.deepcopy(average.module)
    twin.implementation = "reference"
    x = dense_sample(1.0)
    torch.testing.assert_close(average(x), twin(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("how", ["prune", "weight_norm"])
def test_a_grid_stays_while_coefficients_are_computed(how: str) -> None:
    layer = layer_with()
    x = torch.rand(200, 3) ** 2
    if how == "prune":
        prune.l1_unstructured(layer, "coefficients", 0.3)
    else:
        parametrizations.weight_norm(layer, "coefficients")
    before, grid = layer(x), layer.grid.clone()
    for change in (
        layer.update_grid,
        lambda _: refine(layer),
        lambda _: resize(layer, 9),
    ):
        with pytest.raises(ValueError, match="while its coefficients are pruned"):
            change(x)
    assert torch.equal(layer.grid, grid)
    torch.testing.assert_close(layer(x), before)
    if how == "prune":
        prune.remove(layer, "coefficients")
    else:
        parametrize.remove_parametrizations(layer, "coefficients")
    layer.update_grid(x)
    torch.testing.assert_close(layer(x), before, rtol=0.05, atol=0.05)
