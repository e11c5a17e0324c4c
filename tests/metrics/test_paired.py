"""Paired differences against SciPy and by hand."""

import pytest
from scipy import stats

from kancl.metrics.paired import paired_difference


def test_the_interval_is_that_of_the_differences():
    kan = {0: 0.30, 1: 0.50, 2: 0.80, 7: 0.99}
    mlp = {0: 0.20, 1: 0.45, 2: 0.68, 9: 0.01}
    d = paired_difference(kan, mlp)
    # differences 0.10, 0.05, 0.12 of the shared seeds 0, 1, 2; mean 0.09
    low, high = stats.t.interval(0.95, 2, loc=0.09, scale=stats.sem([0.10, 0.05, 0.12]))
    assert d.n_pairs == 3 and d.seeds == (0, 1, 2)
    assert d.mean == pytest.approx(0.09)
    assert d.interval == pytest.approx((low, high))
    assert d.half_width == pytest.approx((high - low) / 2)


def test_its_tests_are_those_of_the_differences():
    kan = {0: 0.30, 1: 0.50, 2: 0.80, 3: 0.90}
    mlp = {0: 0.20, 1: 0.45, 2: 0.68, 3: 0.92}
    d = paired_difference(kan, mlp)
    a, b = list(kan.values()), list(mlp.values())
    assert d.p_t == pytest.approx(stats.ttest_rel(a, b).pvalue)
    # 0.10, 0.05, 0.12, -0.02: sums of signs at least as far as 0.25: ±0.25, ±0.29
    assert d.p_permutation == d.p_wilcoxon == 4 / 16
    assert d.smallest_p == 2 / 16
    assert d.cohens_dz == pytest.approx(d.mean / stats.tstd(d.values))
    assert 0 < d.hedges_gz < d.cohens_dz
    assert d.bootstrap.low < d.mean < d.bootstrap.high


def test_one_pair_has_no_interval():
    d = paired_difference({3: 0.5}, {3: 0.75})
    assert (d.mean, d.half_width, d.n_pairs) == (-0.25, None, 1)
    assert d.interval is d.bootstrap is d.p_t is None


def test_no_shared_seed_is_no_difference():
    assert paired_difference({1: 0.5}, {2: 0.5}) is None
