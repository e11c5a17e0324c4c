"""Curves read off measurements, by hand."""

import pytest
from scipy import stats

from kancl.observe.recorder import Measurement
from kancl.reporting.curves import Curves, mean_curves

ROWS = [
    (0, 0, 0.5, 0.1),
    (10, 0, 0.9, 0.2),
    (20, 0, 1.0, 0.0),  # border
    (30, 1, 0.6, 0.8),
    (40, 1, 0.2, 1.0),
]


def _measurements(jointly=False):
    for iteration, training, first, second in ROWS:
        if iteration:
            experience = None if jointly else training
            yield Measurement(iteration, experience, "batch_loss", 2.0)
        yield Measurement(iteration, 0, "curve_accuracy", first)
        yield Measurement(iteration, 1, "curve_accuracy", second)
        yield Measurement(iteration, 0, "test_accuracy", 0.77)


def test_curves_and_boundaries_are_read_off_measurements():
    curves = Curves.from_measurements(_measurements(), "kan-naive")
    assert curves.points[0] == ((0, 0.5), (10, 0.9), (20, 1.0), (30, 0.6), (40, 0.2))
    assert curves.boundaries == (20, 40)
    assert (curves.n_experiences, curves.last_iteration) == (2, 40)
    assert [curves.starts(k) for k in (0, 1)] == [0, 20]


def test_what_lies_before_an_experiences_training_is_told_apart():
    before, since = Curves.from_measurements(_measurements(), "x").split(1)
    assert before == [(0, 0.1), (10, 0.2), (20, 0.0)]
    assert since == [(20, 0.0), (30, 0.8), (40, 1.0)]


def test_the_mean_over_the_experiences_seen():
    seen = Curves.from_measurements(_measurements(), "x").seen()
    assert seen == [(10, 0.9), (20, 1.0), (30, pytest.approx(0.7)), (40, 0.6)]


def test_trained_jointly_everything_is_seen_from_the_start():
    curves = Curves.from_measurements(_measurements(jointly=True), "x")
    assert curves.trains_jointly
    assert curves.split(1)[0] == [(0, 0.1)]
    assert curves.seen()[0] == (10, pytest.approx(0.55))


def test_a_run_stopped_early_leaves_the_rest_unseen():
    rows = [m for m in _measurements() if m.iteration <= 10]
    curves = Curves.from_measurements(rows, "x")
    assert curves.boundaries == (10,)
    assert curves.starts(1) == 10  # as far as the rows tell


def test_a_run_without_curves_is_refused_by_name():
    with pytest.raises(ValueError, match="'mlp-ewc' has no curve_accuracy"):
        Curves.from_measurements([Measurement(5, 0, "batch_loss", 1.0)], "mlp-ewc")


def _seed(*finals):
    """A run of two experiences that reaches an accuracy on each and keeps it."""
    points = tuple(((0, 0.2), (20, final), (40, final)) for final in finals)
    return Curves("seed", points, (20, 40))


def test_the_mean_over_seeds_has_the_t_interval_as_its_band():
    finals = [0.5, 0.55, 0.6]
    mean = mean_curves([_seed(final) for final in finals], "kan-naive")
    assert (mean.label, mean.n_seeds, mean.boundaries) == ("kan-naive", 3, (20, 40))
    (line,) = mean.points
    assert line == ((0, pytest.approx(0.2)), (20, pytest.approx(0.55)), line[2])
    low, high = stats.ttest_1samp(finals, 0).confidence_interval(0.95)
    assert mean.bands[0][1] == (20, pytest.approx(low), pytest.approx(high))
    assert mean.seen_band[-1] == (40, pytest.approx(low), pytest.approx(high))


def test_no_band_leaves_what_an_accuracy_can_be():
    mean = mean_curves([_seed(0.0), _seed(1.0)], "x")
    assert mean.bands[0][1] == (20, 0.0, 1.0)


def test_one_seed_has_no_band():
    mean = mean_curves([_seed(0.5)], "x")
    assert mean.points == _seed(0.5).points
    assert (mean.n_seeds, mean.bands, mean.seen_band) == (1, (), ())


def test_runs_of_unequal_length_are_stretched_border_onto_border():
    longer = Curves("b", (((0, 0.0), (30, 1.0), (60, 0.5), (80, 0.7)),), (60, 80))
    first = Curves("a", (((0, 0.0), (10, 0.4), (20, 0.3), (40, 0.1)),), (20, 40))
    mean = mean_curves([first, longer], "x")
    # 30 of 60 iterations are half of the first experience, as are 10 of 20
    assert [it for it, _ in mean.points[0]] == [0, 10, 20, 40]
    assert [a for _, a in mean.points[0]] == pytest.approx([0, 0.7, 0.4, 0.4])


def test_runs_of_unlike_experiences_have_no_mean():
    with pytest.raises(ValueError, match="unlike numbers of experiences"):
        mean_curves([_seed(0.5), _seed(0.5, 0.5)], "x")
    with pytest.raises(ValueError, match="no runs"):
        mean_curves([], "x")
