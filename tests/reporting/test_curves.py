"""Curves read off measurements, by hand."""

import pytest

from kancl.plugins.recorder import Measurement
from kancl.reporting.curves import Curves

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


def test_curves_and_borders_are_read_off_measurements():
    curves = Curves.from_measurements(_measurements(), "kan-naive")
    assert curves.points[0] == ((0, 0.5), (10, 0.9), (20, 1.0), (30, 0.6), (40, 0.2))
    assert curves.borders == (20, 40)
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
    assert curves.borders == (10,)
    assert curves.starts(1) == 10  # as far as the rows tell


def test_a_run_without_curves_is_refused_by_name():
    with pytest.raises(ValueError, match="'mlp-ewc' has no curve_accuracy"):
        Curves.from_measurements([Measurement(5, 0, "batch_loss", 1.0)], "mlp-ewc")
