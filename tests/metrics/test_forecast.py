"""Forecasts by hand, and the mean kernel from means alone."""

import pytest
import torch

from kancl.metrics.forecast import falls, kernel_ratio
from kancl.metrics.score_matrix import UndefinedMetric


def test_ratios_by_hand():
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])
    assert kernel_ratio([a], [b]) == pytest.approx(0.5**0.5)
    assert kernel_ratio([a], [a]) == pytest.approx(1.0)
    assert kernel_ratio([a], [torch.tensor([0.0, 3.0])]) == 0.0
    # two layers: K_st = 1 + 2, K_ss = 1 + 4, K_tt = 2 + 1
    two = kernel_ratio([a, torch.tensor([2.0])], [b, torch.tensor([1.0])])
    assert two == pytest.approx(3 / 15**0.5)
    with pytest.raises(ValueError, match="of the same layers"):
        kernel_ratio([a], [torch.ones(3)])
    with pytest.raises(UndefinedMetric):
        kernel_ratio([a], [torch.zeros(2)])


def test_means_give_the_mean_kernel_over_all_pairs_of_samples():
    torch.manual_seed(0)
    old = torch.rand(7, 5, 3, dtype=torch.float64)
    new = torch.rand(9, 5, 3, dtype=torch.float64)

    def kernel(a, b):
        pairs = [(x * y).sum() for x in a for y in b]
        return torch.stack(pairs).mean()

    expected = kernel(old, new) / (kernel(old, old) * kernel(new, new)).sqrt()
    assert kernel_ratio([old.mean(0)], [new.mean(0)]) == pytest.approx(expected.item())


def test_what_each_training_took():
    r = torch.tensor([[0.1, 0.1, 0.1], [0.9, 0.2, 0.1], [0.4, 0.8, 0.1], [0.3, 0.9, 1]])
    assert falls(r) == {
        (0, 1): pytest.approx(0.5),
        (0, 2): pytest.approx(0.1),
        (1, 2): pytest.approx(-0.1),
    }
    assert falls(r, rises=False)[0, 1] == pytest.approx(-0.5)
    r[2, 0] = float("nan")
    assert list(falls(r)) == [(1, 2)]
