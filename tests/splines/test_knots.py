"""Knots: evenly spaced, recognised as such, and following data; warps likewise."""

import pytest
import torch

from kancl.splines import (
    adapted_knots,
    grid_ends,
    is_uniform,
    quantile_warp,
    uniform_knots,
    warped,
)


def test_uniform_knots_by_hand() -> None:
    knots = uniform_knots(0.0, 1.0, 2, 3)
    assert knots.tolist() == [-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    low, high = grid_ends(knots, 3)
    assert (low.item(), high.item()) == (0.0, 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniform_knots_are_recognised_and_bent_ones_not(dtype: torch.dtype) -> None:
    low, high = torch.tensor([-0.4242, 0.0]), torch.tensor([2.8215, 0.3])
    for grid_size in (1, 5, 256):
        knots = uniform_knots(low, high, grid_size, 3).to(dtype)
        assert is_uniform(knots, 3)
        bent = knots.clone()
        bent[1, 4] += 0.01 * (bent[1, 1] - bent[1, 0])
        assert not is_uniform(bent, 3)


def adapt(x: torch.Tensor, share: float = 0.02, margin: float = 0.01) -> torch.Tensor:
    knots = uniform_knots(-1.0, 1.0, 5, 3).repeat(x.shape[1], 1)
    return adapted_knots(x, knots, 3, share, margin)


def test_adapted_knots_cover_the_data_and_follow_its_quantiles() -> None:
    x = torch.randn(1001, 2)
    knots = adapt(x)
    low, high = grid_ends(knots, 3)
    torch.testing.assert_close(low, x.double().amin(0) - 0.01)
    torch.testing.assert_close(high, x.double().amax(0) + 0.01)
    for feature in range(2):
        inner = knots[feature, 3:9]
        counts = torch.histogram(x[:, feature].double(), inner).hist
        assert counts.max() < 250  # of 1001; equally spaced, the middle holds 480
    even = adapt(x, share=1.0)
    assert is_uniform(even, 3)


def test_no_cell_is_empty_for_repeated_values() -> None:
    x = torch.zeros(1000, 2)
    x[:10, 0] = torch.linspace(0, 1, 10)  # a pixel that is nearly always 0
    x[:, 1] = torch.randint(2, (1000,)).float()  # two values
    for share in (0.0, 0.02):
        cells = adapt(x, share).diff(dim=1)
        assert cells.min() > 0.5 * 0.02 * 1.02 / 5


def test_constant_features_keep_their_knots_or_shift() -> None:
    x = torch.tensor([[0.3, 5.0, -7.0]]).repeat(10, 1)
    knots = adapt(x)
    before = uniform_knots(-1.0, 1.0, 5, 3)
    torch.testing.assert_close(knots[0], before)
    torch.testing.assert_close(knots[1], before + 4)
    torch.testing.assert_close(knots[2], before - 6)


def test_warp_gives_every_cell_its_share_and_atoms_none() -> None:
    x = torch.rand(20_000, 3).double()
    x[:, 1] = x[:, 1] ** 2
    x[:, 2] = torch.where(torch.rand(20_000) < 0.8, 0, 0.5 + 0.5 * x[:, 2])
    low, high = torch.zeros(3), torch.ones(3)
    table = quantile_warp(x, low, high, 8, uniform_share=0.01)
    position = warped(x, low, high, table)
    for feature, samples in enumerate((x[:, 0], x[:, 1], x[:, 2][x[:, 2] > 0])):
        cells = position[:, feature][x[:, feature] > 0].floor().clamp(0, 7)
        shares = torch.bincount(cells.long(), minlength=8) / len(samples)
        assert float((shares - 1 / 8).abs().max()) < 0.02, feature
    constant = torch.full((50, 3), 0.3)
    even = quantile_warp(constant, low, high, 8)
    torch.testing.assert_close(even[0], torch.linspace(0, 8, 256).double())


def test_warp_is_increasing_and_linear_beyond_the_grid() -> None:
    low, high = torch.tensor([-1.0]), torch.tensor([2.0])
    table = quantile_warp(torch.randn(500, 1), low, high, 5)
    x = torch.linspace(-3, 4, 5001).unsqueeze(1).double().requires_grad_()
    position = warped(x, low, high, table)
    assert bool((position.detach().diff(dim=0) > 0).all())
    ends = warped(torch.tensor([[-1.0], [2.0]]), low, high, table)
    torch.testing.assert_close(ends, torch.tensor([[0.0], [5.0]]).double())
    (slope,) = torch.autograd.grad(position.sum(), x)
    below = slope[x.detach() < -1]
    torch.testing.assert_close(below, below[:1].expand_as(below))
    with pytest.raises(ValueError, match="above 0 and at most 1, got 0"):
        quantile_warp(torch.rand(5, 1), low, high, 5, uniform_share=0)
    with pytest.raises(ValueError, match="NaN or inf"):
        quantile_warp(torch.full((5, 1), float("inf")), low, high, 5)
