"""Statistics against SciPy's, by hand, and by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kancl.metrics.statistics import (
    bootstrap_interval,
    cohens_dz,
    hedges_gz,
    holm,
    paired_difference,
    pairs_needed,
    permutation_test,
    smallest_p,
    t_interval,
    t_quantile,
    t_test,
    wilcoxon_test,
)

DIFFERENCES = [0.10, 0.05, 0.12, -0.02, 0.07, 0.03, 0.11]
SMALL = st.lists(st.integers(-5, 5).map(lambda k: k / 8), min_size=2, max_size=8)


@pytest.mark.parametrize("degrees, known", [(1, 12.7062), (4, 2.7764), (19, 2.0930)])
def test_the_t_quantile_is_that_of_the_printed_tables(degrees, known):
    assert t_quantile(degrees) == pytest.approx(known, abs=1e-4)


def test_the_t_interval_is_scipys():
    low, high = t_interval(DIFFERENCES)
    expected = stats.ttest_1samp(DIFFERENCES, 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high))


def test_the_t_interval_by_hand():
    # 1, 2, 3: mean 2, s = 1, t(2) = 4.302653: 2 ± 4.302653 / sqrt(3)
    assert t_interval([1, 2, 3]) == pytest.approx((-0.484138, 4.484138), abs=1e-6)


def test_the_t_test_is_scipys_paired_test():
    a = [0.9, 0.7, 0.8, 0.85, 0.6]
    b = [0.8, 0.72, 0.71, 0.6, 0.55]
    expected = stats.ttest_rel(a, b).pvalue
    assert t_test([x - y for x, y in zip(a, b)]) == pytest.approx(expected)


def test_the_bootstrap_is_scipys_bca_and_the_same_every_time():
    rng = np.random.default_rng(0)
    options = {"n_resamples": 9999, "confidence_level": 0.95, "method": "BCa"}
    expected = stats.bootstrap((DIFFERENCES,), np.mean, rng=rng, **options)
    interval = bootstrap_interval(DIFFERENCES)
    assert interval == pytest.approx(tuple(expected.confidence_interval))
    assert interval == bootstrap_interval(DIFFERENCES)
    assert interval != bootstrap_interval(DIFFERENCES, seed=1)


def test_one_value_has_no_interval_and_equal_values_one_without_width():
    assert t_interval([0.3]) is None and bootstrap_interval([0.3]) is None
    assert t_interval([0.3, 0.3]) == bootstrap_interval([0.3, 0.3]) == (0.3, 0.3)


@given(SMALL)
def test_the_permutation_test_is_scipys(differences):
    expected = stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", n_resamples=np.inf
    )
    assert permutation_test(differences) == pytest.approx(expected.pvalue)


def test_the_permutation_test_by_hand():
    # of the 8 signs of 1, 2, 4 the sums ±7 are as extreme as 7: 2 of 8
    assert permutation_test([1, 2, 4]) == 2 / 8
    # sums of ±1 ±2 ±4 at least as far as 5 = -1 + 2 + 4: ±7, ±5
    assert permutation_test([-1, 2, 4]) == 4 / 8
    assert permutation_test([0.0, 0.0]) == 1


def test_many_pairs_are_drawn_at_random_and_the_test_stays_close():
    rng = np.random.default_rng(1)
    differences = rng.normal(0.4, 1, size=30).tolist()
    exact = stats.ttest_1samp(differences, 0).pvalue  # close, for normal differences
    assert permutation_test(differences) == pytest.approx(exact, rel=0.1)
    assert permutation_test([1.0] * 40) == 1 / 99991  # never 0


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=10, unique=True), st.data())
def test_wilcoxons_test_is_scipys_exact_one(sizes, data):
    signs = [data.draw(st.sampled_from([-1, 1])) for _ in sizes]
    differences = [sign * size for sign, size in zip(signs, sizes)]
    expected = stats.wilcoxon(differences, method="exact").pvalue
    assert wilcoxon_test(differences) == pytest.approx(expected)


def test_wilcoxons_test_with_ties_and_zeros_by_hand():
    # 0 is left out; ranks of 1, 1, 3 are 1.5, 1.5, 3; sums of ±1.5 ±1.5 ±3 at least as
    # far from 0 as 1.5 + 1.5 + 3 = 6: two of eight
    assert wilcoxon_test([0, 1, 1, 3]) == 2 / 8
    # as far as -1.5 + 1.5 + 3 = 3: all but the two (of eight) that give 0
    assert wilcoxon_test([0, -1, 1, 3]) == 6 / 8
    assert wilcoxon_test([0, 0]) == 1


def test_so_few_pairs_that_no_difference_could_be_significant():
    assert smallest_p(5) == permutation_test([9, 1, 2, 3, 4]) == 0.0625
    assert smallest_p(6) == permutation_test([9, 1, 2, 3, 4, 5]) == 0.03125
    assert pairs_needed() == 6 and pairs_needed(0.05 / 12) == 9


def test_holms_correction_by_hand():
    # sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04; never
    # smaller than the one before
    p = [0.01, 0.04, 0.03, 0.005]
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferronis(p_values):
    for p, corrected in zip(p_values, holm(p_values)):
        assert p <= corrected <= min(1, len(p_values) * p) or corrected == p


def test_effect_sizes_by_hand():
    # 1, 2, 3, 6: mean 3, s^2 = 14 / 3
    d_z = 3 / math.sqrt(14 / 3)
    assert cohens_dz([1, 2, 3, 6]) == pytest.approx(d_z)
    # J(3) = gamma(1.5) / (sqrt(1.5) gamma(1)) = (sqrt(pi) / 2) / sqrt(1.5)
    assert hedges_gz([1, 2, 3, 6]) == pytest.approx(
        d_z * math.sqrt(math.pi) / 2 / math.sqrt(1.5)
    )


def test_what_has_no_spread_has_no_t_and_no_effect_size():
    for differences in ([0.1], [0.1, 0.1], [0.1 + 0.2, 0.3, 0.3]):
        assert t_test(differences) is None
        assert cohens_dz(differences) is None
        assert hedges_gz(differences) is None
    assert hedges_gz([1, 2]) is None


@pytest.mark.parametrize("values", [[], [float("nan")], [0.1, float("inf")]])
def test_nothing_and_nan_are_refused(values):
    for statistic in (t_interval, permutation_test, wilcoxon_test, cohens_dz):
        with pytest.raises(ValueError, match="at least one value|finite"):
            statistic(values)


def test_impossible_p_values_and_counts_are_refused():
    with pytest.raises(ValueError, match="1.5"):
        holm([0.1, 1.5])
    with pytest.raises(ValueError, match="got 0"):
        t_quantile(0)
    with pytest.raises(ValueError, match="got 0"):
        smallest_p(0)


NULLS = {
    "normal": lambda rng, n: rng.normal(0, 0.02, n),
    "heavy tails": lambda rng, n: rng.standard_t(2, n) * 0.02,
    "either or": lambda rng, n: rng.choice([-0.1, 0.1], n) + rng.normal(0, 0.001, n),
}


ERROR = 3 * math.sqrt(0.05 * 0.95 / 600)  # three standard errors of 600 simulations


def _share_found(null, test, n_pairs=8):
    rng = np.random.default_rng(2)
    found = [test(NULLS[null](rng, n_pairs).tolist()) < 0.05 for _ in range(600)]
    return np.mean(found)


@pytest.mark.parametrize("null", NULLS)
@pytest.mark.parametrize("test", [permutation_test, wilcoxon_test])
def test_where_there_is_no_difference_the_exact_tests_find_none(null, test):
    assert _share_found(null, test) <= 0.05 + ERROR


@pytest.mark.parametrize("null", ["normal", "heavy tails"])
def test_where_there_is_no_difference_students_test_finds_none(null):
    assert _share_found(null, t_test) <= 0.05 + ERROR


def test_students_test_alone_is_fooled_by_differences_that_are_either_or():
    # all of 8 signs alike, or all but one: 2 (1 + 8) / 256 = 7 %
    assert _share_found("either or", t_test) == pytest.approx(18 / 256, abs=ERROR)


@pytest.mark.parametrize("test", [t_test, permutation_test, wilcoxon_test])
def test_a_planted_difference_is_found(test):
    rng = np.random.default_rng(3)
    found = [test(rng.normal(0.04, 0.02, 8).tolist()) < 0.05 for _ in range(200)]
    assert np.mean(found) > 0.95


def test_an_interval_holds_the_truth_nineteen_times_in_twenty():
    rng = np.random.default_rng(4)
    intervals = [t_interval(rng.normal(0.3, 0.1, 5).tolist()) for _ in range(1000)]
    share = np.mean([low <= 0.3 <= high for low, high in intervals])
    assert share == pytest.approx(0.95, abs=3 * math.sqrt(0.05 * 0.95 / 1000))


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
