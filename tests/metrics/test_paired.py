"""Paired differences against SciPy and by hand."""

import pytest
from scipy import stats

from kancl.metrics.paired import paired_difference, t_quantile


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 9, 19, 100])
def test_the_t_quantile_is_scipys(degrees):
    assert t_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), abs=1e-6)


def test_the_interval_is_that_of_the_differences():
    kan = {0: 0.30, 1: 0.50, 2: 0.80, 7: 0.99}
    mlp = {0: 0.20, 1: 0.45, 2: 0.68, 9: 0.01}
    d = paired_difference(kan, mlp)
    # differences 0.10, 0.05, 0.12 of the shared seeds 0, 1, 2; mean 0.09
    low, high = stats.t.interval(0.95, 2, loc=0.09, scale=stats.sem([0.10, 0.05, 0.12]))
    assert d.n_pairs == 3
    assert d.mean == pytest.approx(0.09)
    assert d.half_width == pytest.approx((high - low) / 2)


def test_one_pair_has_no_interval():
    d = paired_difference({3: 0.5}, {3: 0.75})
    assert (d.mean, d.half_width, d.n_pairs) == (-0.25, None, 1)


def test_no_shared_seed_is_no_difference():
    assert paired_difference({1: 0.5}, {2: 0.5}) is None


def test_no_degrees_of_freedom_are_refused():
    with pytest.raises(ValueError, match="got 0"):
        t_quantile(0)
