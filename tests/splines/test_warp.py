"""Warps: every cell its share of the samples, increasing, linear beyond the grid."""

import pytest
import torch

from kancl.splines import quantile_warp, warped


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
