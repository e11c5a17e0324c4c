"""KANs: made of their layers, compatible with efficient-kan."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kancl import KAN, KANLinear
from kancl.bench.layers import load_efficient_kan
from kancl.config import presets
from kancl.models import kan

kan_local = partial(kan, **presets("model")["kan_local"].options)
GOLDEN = Path(__file__).parent / "data" / "efficient_kan.pt"


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    """Weights, inputs and outputs written by efficient-kan's KAN([6, 5, 3])."""
    return torch.load(GOLDEN, weights_only=True)


@pytest.mark.parametrize("when", ["fresh", "after_update_grid"])
@pytest.mark.parametrize("scaler", [True, False])
def test_efficient_kan_weights_give_its_outputs(
    golden: dict[str, Any], when: str, scaler: bool
) -> None:
    expected = golden[when]
    network = KAN([6, 5, 3], enable_standalone_scale_spline=scaler)
    network.load_state_dict(expected["state"])
    x = golden["x"].clone().requires_grad_()
    y = network(x)
    torch.testing.assert_close(y, expected["y"], rtol=1e-5, atol=1e-5)
    (gradient,) = torch.autograd.grad(y.square().sum(), x)
    torch.testing.assert_close(
        gradient, expected["input_gradient"], rtol=1e-4, atol=1e-4
    )
    assert network.layers[0].uniform == (when == "fresh")
    if scaler:
        loss = network.regularization_loss()
        torch.testing.assert_close(loss, expected["regularization_loss"])


def test_state_dict_for_efficient_kan(golden: dict[str, Any]) -> None:
    network = KAN([6, 5, 3])
    theirs = golden["fresh"]["state"]
    network.load_state_dict(theirs)
    ours = network.efficient_kan_state_dict()
    assert set(ours) == set(theirs)
    for name, tensor in theirs.items():
        assert ours[name].shape == tensor.shape
        assert ours[name].dtype == tensor.dtype
        torch.testing.assert_close(ours[name], tensor)
    with pytest.raises(ValueError, match=r"has no layers\.0\.anchor"):
        KAN([6, 5, 3], input_anchor=0.0).efficient_kan_state_dict()


def test_against_a_checkout_of_efficient_kan() -> None:
    checkout = os.environ.get("KANCL_EFFICIENT_KAN")
    if not checkout:
        pytest.skip("KANCL_EFFICIENT_KAN names no checkout of efficient-kan")
    theirs = load_efficient_kan(checkout)([784, 64, 10])
    ours = KAN([784, 64, 10])
    ours.load_state_dict(theirs.state_dict())
    for x in (torch.rand(64, 784) * 2 - 1, torch.randn(64, 784) * 3):
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    back = load_efficient_kan(checkout)([784, 64, 10])
    back.load_state_dict(ours.efficient_kan_state_dict())


def test_positional_arguments_are_those_of_efficient_kan() -> None:
    network = KAN([3, 2], 7, 2, 0.3, 0.5, 0.25, nn.Tanh, 0.1, [0, 2])
    layer = KANLinear(3, 2, 7, 2, 0.3, 0.5, 0.25, False, nn.Tanh, 0.1, [0, 2])
    for made in (network.layers[0], layer):
        assert (made.grid_size, made.spline_order, made.grid_eps) == (7, 2, 0.1)
        assert (made.scale_noise, made.scale_base, made.scale_spline) == (
            0.3,
            0.5,
            0.25,
        )
        assert isinstance(made.base_activation, nn.Tanh)
        assert made.grid[0, 2] == 0 and made.grid[0, -3] == 2
    assert layer.spline_scaler is None


def test_forward_with_update_grid_moves_every_layer() -> None:
    network = KAN([4, 3, 2])
    grids = [layer.grid.clone() for layer in network.layers]
    x = torch.rand(100, 4) * 0.5
    y = network(x, update_grid=True)
    for layer, grid in zip(network.layers, grids):
        assert not torch.equal(layer.grid, grid)
    torch.testing.assert_close(network(x), y)


def test_network_is_its_layers() -> None:
    network = KAN([4, 3, 5, 2])
    x = torch.rand(6, 4)
    first, second, last = network.layers
    torch.testing.assert_close(network(x), last(second(first(x))))
    torch.testing.assert_close(network.features(x), second(first(x)))
    assert network.head is last
    assert (network.in_features, network.feature_dim) == (4, 5)
    head = network.make_head(9)
    assert head(network.features(x)).shape == (6, 9)
    network.remove_head()
    assert network.features(x).shape == (6, 5)
    assert len(list(network.parameters())) == 2 * 3


def test_input_range_is_the_first_layers_alone() -> None:
    network = KAN([4, 3, 2], grid_range=(-2, 2), input_range=(0, 1))
    ends = [(float(la.grid[0, 3]), float(la.grid[0, -4])) for la in network.layers]
    assert ends == [(0, 1), (-2, 2)]
    assert float(network.make_head(3).grid[0, 3]) == -2


def test_off_grid_share_of_every_layer() -> None:
    network = KAN([2, 3, 2], input_range=(0, 1))
    x = torch.tensor([[0.5, 2.0], [0.1, 0.2]])
    shares = network.off_grid_share(x)
    assert shares[0] == 0.25
    hidden = network.features(x)
    assert shares[1] == pytest.approx(float((hidden.abs() > 1).double().mean()))


@pytest.mark.parametrize("control", ["tanh", "layernorm_tanh"])
def test_hidden_control_comes_between_the_layers(control: Any) -> None:
    network = KAN([6, 5, 4, 3], hidden_control=control)
    images = 9 * torch.rand(7, 6)
    x, shares = images, []
    for number, layer in enumerate(network.layers):
        if number > 0 and control == "layernorm_tanh":
            x = x - x.mean(1, keepdim=True)
            x = 0.5 * x / (x.square().mean(1, keepdim=True) + 1e-5).sqrt()
        hidden = x = torch.tanh(x) if number > 0 else x
        shares.append(layer.off_grid_share(x))
        x = layer(x)
    torch.testing.assert_close(network(images), x)
    torch.testing.assert_close(network.features(images), hidden)
    assert network.off_grid_share(images) == shares
    assert shares[0] > 0.5 and shares[1:] == [0, 0]
    assert network.state_dict().keys() == KAN([6, 5, 4, 3]).state_dict().keys()
    with pytest.raises(ValueError, match=f"hidden_control='{control}'"):
        network.efficient_kan_state_dict()
    program = torch.export.export(network, (images,))
    torch.testing.assert_close(program.module()(images), x)


@pytest.mark.parametrize("control", ["none", "layernorm_tanh"])
def test_top_k_leaves_the_largest_hidden_values(control: Any) -> None:
    all_of_them = KAN([6, 9, 3], hidden_control=control)
    few = KAN([6, 9, 3], hidden_control=control, top_k=2)
    few.load_state_dict(all_of_them.state_dict())
    x = torch.rand(7, 6)
    hidden, gated = all_of_them.features(x), few.features(x)
    largest = hidden >= hidden.sort(1).values[:, -2:-1]
    assert torch.equal(gated, torch.where(largest, hidden, 0))
    torch.testing.assert_close(few(x), few.head(gated))
    with pytest.raises(ValueError, match="top_k must be 1 or more"):
        KAN([6, 9, 3], top_k=0)


def test_unknown_hidden_control_is_refused() -> None:
    with pytest.raises(ValueError, match="none, tanh, layernorm_tanh, got 'relu'"):
        KAN([2, 2], hidden_control="relu")  # type: ignore[arg-type]


def test_kan_local_has_no_path_but_its_splines() -> None:
    network = kan_local(4, 3, input_range=(0, 1), hidden=(6, 5))
    assert network.lazy and not kan(4, 3).lazy
    first, *others = network.layers
    assert all(
        list(dict(each.named_parameters())) == ["coefficients"]
        for each in network.layers
    )
    assert (first.grid_size, first.spline_order) == (1, 1)
    assert {(each.grid_size, each.spline_order) for each in others} == {(5, 3)}
    assert (first.anchor == 0).all() and (others[0].anchor == 0).all()
    x = torch.rand(9, 4)
    line = first.coefficients[:, 1] - first.coefficients[:, 0]
    torch.testing.assert_close(first(x), x @ line)  # linear in a pixel
    assert network.off_grid_share(x) == [0, 0, 0]
    assert network.make_head(2).grid_size == 5
    assert kan_local(4, 3, hidden=()).layers[0].grid_size == 1


def test_too_few_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"two sizes, got \[784\]"):
        KAN([784])


@pytest.mark.parametrize("outside", ["zero", "linear"])
def test_builder(outside: Any) -> None:
    network = kan(
        20,
        3,
        input_range=(-1, 4),
        hidden=(6, 5),
        grid_size=7,
        degree=2,
        base=False,
        outside=outside,
    )
    sizes = [(la.in_features, la.out_features) for la in network.layers]
    assert sizes == [(20, 6), (6, 5), (5, 3)]
    first = network.layers[0]
    assert (first.grid_size, first.spline_order, first.outside) == (7, 2, outside)
    assert (float(first.grid[0, 2]), float(first.grid[0, -3])) == (-1, 4)
    assert set(network.state_dict()) == {
        f"layers.{i}.{name}" for i in range(3) for name in ("coefficients", "grid")
    }


def test_learns_a_function_of_two_variables() -> None:
    network = KAN([2, 5, 1])
    optimizer = torch.optim.Adam(network.parameters(), 0.02)

    def target(x: Tensor) -> Tensor:
        return (torch.sin(3 * x[:, :1]) + x[:, 1:] ** 2).tanh()

    for _ in range(300):
        x = torch.rand(128, 2) * 2 - 1
        loss = (network(x) - target(x)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x = torch.rand(500, 2) * 2 - 1
    error = (network(x) - target(x)).detach().square().mean()
    assert float(error / target(x).var()) < 0.01


def pixels(n: int = 400) -> Tensor:
    """Three inputs: mostly background, a narrow range, a constant."""
    torch.manual_seed(0)
    x = torch.rand(n, 3)
    x[: n // 2, 0] = 0
    x[:, 1] = 0.25 + 0.5 * x[:, 1]
    x[:, 2] = 0.0
    return x


def test_an_input_grid_of_ranges_is_each_inputs_own() -> None:
    x = pixels()
    network = kan(3, 2, hidden=(4,), input_grid="range")
    layer = network.layers[0]
    assert isinstance(layer, KANLinear)
    before = layer.coefficients.clone()
    network.fit_input_grid(x)
    low, high = layer.grid[:, 3], layer.grid[:, -4]
    expected = torch.stack([x.amin(0), x.amax(0)])
    expected[:, 2] = torch.tensor([0.0, 1.0])  # says nothing: kept
    torch.testing.assert_close(torch.stack([low, high]), expected)
    assert layer.uniform and layer.off_grid_share(x) < 0.01  # rounding of the ends
    assert torch.equal(layer.coefficients, before)
    local = kan_local(3, 2, hidden=(4,), input_grid="range")
    local.fit_input_grid(x)  # anchored at 0, which stays on the grid
    assert local.layers[0].grid[1, 1] == 0  # of degree 1


def test_an_input_grid_of_quantiles_leaves_the_background_out() -> None:
    x = pixels()
    network = kan(3, 2, hidden=(4,), input_grid="quantile", grid_size=8)
    network.fit_input_grid(x)
    layer = network.layers[0]
    assert isinstance(layer, KANLinear) and layer.warp is not None
    assert layer.uniform  # the fast paths go on
    ends = torch.tensor([[0.0] * 3, [1.0] * 3])
    assert layer.off_grid_share(ends) == 0
    cells = torch.histc(layer.spline_grid.position(x)[:, 1].float(), 8, 0, 8)
    assert cells.min() > 0.5 * len(x) / 8  # of the uniform grid half would be empty
    slow = kan(3, 2, hidden=(4,), grid_size=8, implementation="reference")
    slow.load_state_dict(network.state_dict())  # which carries the warp
    torch.testing.assert_close(network(x), slow(x), rtol=1e-4, atol=1e-5)


def test_input_grids_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="a grid of size 1 has none"):
        kan_local(3, 2, input_grid="quantile")
    with pytest.raises(ValueError, match="set one of the two"):
        kan(3, 2, input_grid="range", input_grid_range=(0, 1))
    with pytest.raises(ValueError, match="got 'ranges'"):
        KAN([3, 2], input_grid="ranges")  # type: ignore[arg-type]
    headless = kan(3, 2, hidden=(), input_grid="range")
    headless.remove_head()
    with pytest.raises(ValueError, match="or a single head"):
        headless.fit_input_grid(pixels())
    network = kan(3, 2, input_grid="range")
    with pytest.raises(ValueError, match="finite"):
        network.fit_input_grid(torch.full((4, 3), float("nan")))
