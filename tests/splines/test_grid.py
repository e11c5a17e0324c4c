"""What decides a layer's arithmetic is read from its tensors, however they come."""

import copy

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.optim.swa_utils import AveragedModel

from kancl import KAN, KANLinear
from kancl.splines import Grid, is_uniform, spline_basis, uniform_knots


def layers(**options: object) -> tuple[KANLinear, KANLinear, Tensor]:
    """A layer, one like it whose knots have moved, and samples."""
    layer = KANLinear(6, 4, outside="linear", **options)  # type: ignore[arg-type]
    moved = copy.deepcopy(layer)
    moved.update_grid(torch.rand(300, 6) ** 3)
    assert layer.uniform and not moved.uniform
    return layer, moved, torch.rand(40, 6) * 2 - 1


def test_a_moved_grid_counts_whichever_way_it_comes() -> None:
    layer, moved, x = layers()
    expected = moved(x)
    layer(x)  # has read its own grid
    state = dict(moved.state_dict())
    torch.testing.assert_close(functional_call(layer, state, (x,)), expected)
    average = AveragedModel(layer, use_buffers=True)
    average(x)
    average.update_parameters(moved)
    average.update_parameters(moved)
    assert not average.module.uniform
    written = copy.deepcopy(layer)
    written(x)
    with torch.no_grad():
        for name, tensor in written.state_dict().items():
            tensor.copy_(state[name])
    torch.testing.assert_close(written(x), expected)
    with torch.no_grad():
        for name, tensor in written.state_dict().items():
            tensor.copy_(layer.state_dict()[name])
    assert written.uniform
    torch.testing.assert_close(written(x), layer(x))


def test_models_with_different_grids_side_by_side() -> None:
    layer, moved, x = layers(implementation="auto")
    parameters, buffers = stack_module_state([layer, moved])  # type: ignore[list-item]

    def forward(parameters: dict, buffers: dict) -> Tensor:
        return functional_call(layer, (parameters, buffers), (x,))

    found = vmap(forward)(parameters, buffers)
    torch.testing.assert_close(found, torch.stack([layer(x), moved(x)]))


def test_a_wide_input_does_not_hide_the_knots_of_a_narrow_one() -> None:
    ends = torch.tensor([[0.0, 2e6], [0.0, 1.0]])
    knots = uniform_knots(ends[:, 0], ends[:, 1], 5, 3).float()
    assert is_uniform(knots, 3)
    knots[1, 5] += 0.05
    assert not is_uniform(knots, 3)
    layer = KANLinear(2, 3, grid_range=ends)
    with torch.no_grad():
        layer.grid.copy_(knots)
    x = torch.rand(20, 2) * ends[:, 1]
    slow = KANLinear(2, 3, grid_range=ends, implementation="reference")
    slow.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(x), slow(x), rtol=1e-5, atol=1e-5)


def test_even_knots_stay_even_in_double_precision() -> None:
    layer = KANLinear(5, 3, 7, grid_range=(-0.4242, 2.8215), implementation="sparse")
    x = torch.rand(9, 5)
    y = layer(x)
    layer.double()
    assert layer.uniform
    torch.testing.assert_close(layer(x.double()), y.double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("implementation", ["reference", "dense", "sparse"])
def test_an_empty_batch_has_gradients_of_zero(implementation: str) -> None:
    layer = KANLinear(8, 4, implementation=implementation)  # type: ignore[arg-type]
    x = torch.rand(0, 8, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None and x.grad.shape == (0, 8)
    assert not bool(layer.coefficients.grad.any())


def test_a_layer_is_built_without_memory_and_filled_later() -> None:
    layer = KANLinear(8, 4, grid_range=(0, 1))
    with torch.device("meta"):
        empty = KANLinear(8, 4)
    assert empty.coefficients.is_meta and empty.grid.is_meta
    empty = empty.to_empty(device="cpu")
    empty.reset_parameters()
    empty.load_state_dict(layer.state_dict())
    x = torch.rand(5, 8)
    assert torch.equal(empty(x), layer(x))


def test_grids_move_for_samples_of_any_shape() -> None:
    network, twin = KAN([4, 3, 2]), KAN([4, 3, 2])
    twin.load_state_dict(network.state_dict())
    x = torch.rand(10, 20, 4) * 0.5
    y = network(x, update_grid=True)
    torch.testing.assert_close(y.flatten(0, 1), twin(x.flatten(0, 1), update_grid=True))


def test_a_grid_alone_gives_bases_and_sums() -> None:
    knots = uniform_knots(torch.tensor([-1.0, 0.0]), 2.0, 6, 2)
    x, c = torch.rand(9, 2).double(), torch.randn(2, 8, 3).double()
    for bend in (0.0, 0.1):
        knots = knots.clone()
        knots[0, 4] += bend
        grid = Grid(knots, 2, "clamp")
        assert grid.uniform == (bend == 0)
        basis = spline_basis(x, knots, 2, "clamp")
        torch.testing.assert_close(grid.basis(x), basis)
        expected = torch.einsum("nig,igo->no", basis, c)
        torch.testing.assert_close(grid.sum(x, c), expected)
