"""Continual evaluation: worked by hand, and against slow twins."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kancl.metrics.continual import (
    CONTINUAL_METRICS,
    WINDOW,
    minimum_accuracy,
    recovered_share,
    recovery_iterations,
    stability_gap,
    summarise_curves,
    windowed_forgetting,
    windowed_plasticity,
    worst_case_accuracy,
)
from kancl.metrics.score_matrix import UndefinedMetric

# three experiences of 100 iterations each
FIRST = [(0, 0.5), (100, 0.9), (110, 0.4), (150, 0.86), (200, 0.88), (210, 0.7)]
FIRST += [(250, 0.75), (300, 0.8)]
SECOND = [(0, 0.5), (100, 0.5), (110, 0.6), (150, 0.8), (200, 1.0), (210, 0.94)]
SECOND += [(250, 0.96), (300, 0.97)]
THIRD = [(0, 0.5), (100, 0.5), (110, 0.5), (150, 0.5), (200, 0.5), (210, 0.6)]
THIRD += [(250, 0.7), (300, 0.8)]
CURVES, BORDERS = [FIRST, SECOND, THIRD], [100, 200, 300]


def test_min_acc_and_wc_acc_are_of_what_was_learned_before():
    # the first fell to 0.4 after iteration 100, the second to 0.94 after 200
    assert minimum_accuracy(CURVES, BORDERS) == pytest.approx((0.4 + 0.94) / 2)
    # De Lange et al. 2023: the last experience's accuracy with weight 1 / 3
    expected = 0.8 / 3 + 2 / 3 * (0.4 + 0.94) / 2
    assert worst_case_accuracy(CURVES, BORDERS) == pytest.approx(expected)


def test_the_stability_gap_is_the_dip_below_both_borders():
    # first in the second: 0.9 -> 0.88, down to 0.4; in the third: 0.88 -> 0.8, to 0.7
    # second in the third: 1.0 -> 0.97, down to 0.94
    expected = ((0.88 - 0.4) + (0.8 - 0.7) + (0.97 - 0.94)) / 3
    assert stability_gap(CURVES, BORDERS) == pytest.approx(expected)


def test_forgetting_without_return_is_no_gap():
    falls = [(0, 0.5), (100, 1.0), (110, 0.3), (200, 0.0)]
    other = [(0, 0.5), (100, 0.5), (110, 0.5), (200, 1.0)]
    assert stability_gap([falls, other], [100, 200]) == 0.0


def test_recovery_is_counted_from_the_border_and_what_never_came_back_told():
    # first in the second: below 0.855 at 110, back at 150: 50 iterations
    # first in the third: below 0.836 to the end; second in the third: below 0.95 at 210,
    # back at 250: 50 iterations
    assert recovery_iterations(CURVES, BORDERS) == pytest.approx(50)
    assert recovered_share(CURVES, BORDERS) == pytest.approx(2 / 3)


def test_windows_reach_one_hundred_iterations():
    # falls: 0.9 -> 0.4 within 10; 1.0 -> 0.94 within 10; the third never fell
    assert windowed_forgetting(CURVES, BORDERS) == pytest.approx((0.5 + 0.06) / 3)
    # rises: 0.4 -> 0.88 within 90; 0.5 -> 1.0 within 100; 0.5 -> 0.8 within 100
    assert windowed_plasticity(CURVES, BORDERS) == pytest.approx((0.48 + 0.5 + 0.3) / 3)


points = st.lists(
    st.tuples(st.integers(1, 70), st.integers(0, 50)), min_size=2, max_size=30
)


@settings(max_examples=40)
@given(points)
def test_the_windowed_metrics_equal_all_pairs_compared(steps):
    curve, at = [], 0
    for step, percent in steps:
        at += step
        curve.append((at, percent / 50))
    pairs = [b - a for i, a in curve for j, b in curve if 0 <= j - i <= WINDOW]
    boundaries = [curve[0][0], curve[-1][0]]
    assert windowed_plasticity([curve] * 2, boundaries) == pytest.approx(max(pairs))
    assert windowed_forgetting([curve] * 2, boundaries) == pytest.approx(-min(pairs))


@pytest.mark.parametrize(
    ("curves", "boundaries", "says"),
    [
        ([], [], "evaluation.samples=0"),
        ([FIRST], [300], "single experience"),
        (CURVES, [100, 200], "2 of 3 experiences"),
        ([FIRST, SECOND[:-1], THIRD], BORDERS, "experience 2 was not measured at the"),
    ],
)
def test_what_cannot_be_told_says_why(curves, boundaries, says):
    summary = summarise_curves(curves, boundaries)
    assert all(summary[name] is None for name in CONTINUAL_METRICS)
    assert all(says in reason for reason in summary["undefined"].values())
    with pytest.raises(UndefinedMetric, match=says):
        minimum_accuracy(curves, boundaries)


def test_where_nothing_fell_or_nothing_came_back_there_is_no_recovery():
    steady = [(0, 0.5), (100, 0.9), (150, 0.9), (200, 0.9)]
    lost = [(0, 0.5), (100, 0.9), (150, 0.1), (200, 0.1)]
    with pytest.raises(UndefinedMetric, match="no accuracy fell below"):
        recovered_share([steady, steady], [100, 200])
    assert recovered_share([lost, steady], [100, 200]) == 0.0
    with pytest.raises(UndefinedMetric, match="none of 1 falls"):
        recovery_iterations([lost, steady], [100, 200])


def test_joint_training_has_no_old_experiences():
    summary = summarise_curves(CURVES, [300], trains_jointly=True)
    assert "all experiences at once" in summary["undefined"]["stability_gap"]


def test_a_measured_run_has_them_all():
    summary = summarise_curves(CURVES, BORDERS)
    assert summary.pop("undefined") == {}
    assert summary == {
        name: f(CURVES, BORDERS) for name, f in CONTINUAL_METRICS.items()
    }
