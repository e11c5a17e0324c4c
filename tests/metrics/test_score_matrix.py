"""The metrics against numbers worked out by hand."""

import math

import pytest
import torch

from kancl.metrics.accuracy_matrix import (
    UndefinedMetric,
    average_accuracy,
    average_seen_accuracy,
    backward_transfer,
    empty_matrix,
    forgetting,
    forward_transfer,
    learning_accuracy,
    summarise,
)

NAN = float("nan")

#           tested on:  1     2     3
R = torch.tensor(
    [
        [0.50, 0.40, 0.30],  # before training
        [0.90, 0.50, 0.20],  # after experience 1
        [0.95, 0.80, 0.60],  # after 2
        [0.45, 0.85, 0.70],  # after 3
    ],
    dtype=torch.float64,
)
JOINT = torch.tensor([[0.5, 0.5], [NAN, NAN], [0.9, 0.8]])
SINGLE = torch.tensor([[0.1], [0.9]])
NEEDS_THE_WAY = [learning_accuracy, forgetting, backward_transfer, forward_transfer]


def test_average_accuracy_is_the_mean_of_the_last_row():
    assert average_accuracy(R) == pytest.approx((0.45 + 0.85 + 0.70) / 3)


def test_learning_accuracy_is_the_mean_of_the_diagonal():
    assert learning_accuracy(R) == pytest.approx((0.90 + 0.80 + 0.70) / 3)


def test_forgetting_counts_from_the_best_not_from_the_diagonal():
    # experience 1: best after 2 (0.95); experience 2: best before the last is 0.80
    assert forgetting(R) == pytest.approx(((0.95 - 0.45) + (0.80 - 0.85)) / 2)


def test_backward_transfer_counts_from_the_diagonal():
    assert backward_transfer(R) == pytest.approx(((0.45 - 0.90) + (0.85 - 0.80)) / 2)


def test_forward_transfer_counts_from_before_training():
    assert forward_transfer(R) == pytest.approx(((0.50 - 0.40) + (0.60 - 0.30)) / 2)


def test_what_an_untrained_network_guesses_right_was_never_learned():
    r = torch.tensor([[0.9, 0.5], [0.3, 0.5], [0.2, 0.5]])
    assert forgetting(r) == pytest.approx(0.3 - 0.2)


@pytest.mark.parametrize("after, expected", [(1, 0.90), (2, 0.875), (3, 2 / 3)])
def test_seen_accuracy_leaves_out_experiences_to_come(after, expected):
    assert average_seen_accuracy(R, after) == pytest.approx(expected)
    assert average_seen_accuracy(R) == average_accuracy(R)


def test_before_training_nothing_is_seen():
    with pytest.raises(UndefinedMetric, match="before training"):
        average_seen_accuracy(R, 0)


@pytest.mark.parametrize("metric", NEEDS_THE_WAY)
def test_a_jointly_trained_run_has_no_metric_of_the_way_there(metric):
    with pytest.raises(UndefinedMetric, match="jointly"):
        metric(JOINT)


def test_a_jointly_trained_run_has_an_average_accuracy():
    assert average_accuracy(JOINT) == pytest.approx(0.85)


@pytest.mark.parametrize("metric", [forgetting, backward_transfer, forward_transfer])
def test_one_experience_leaves_nothing_to_forget(metric):
    with pytest.raises(UndefinedMetric, match="single experience"):
        metric(SINGLE)


def test_one_experience_can_be_learned():
    assert learning_accuracy(SINGLE) == average_accuracy(SINGLE) == pytest.approx(0.9)


@pytest.mark.parametrize(
    "row, metrics",
    [
        (0, [forward_transfer]),
        (2, NEEDS_THE_WAY),
        (3, [average_accuracy, learning_accuracy, forgetting, backward_transfer]),
    ],
)
def test_a_missing_row_is_named_by_the_metrics_that_need_it_and_only_those(
    row, metrics
):
    r = R.clone()
    r[row] = NAN
    for metric in [average_accuracy, *NEEDS_THE_WAY]:
        if metric in metrics:
            when = f"after {row} of 3" if row else "before training"
            with pytest.raises(UndefinedMetric, match=when):
                metric(r)
        else:
            assert metric(r) == metric(R)


def test_a_summary_holds_numbers_or_none_with_a_reason():
    summary = summarise(JOINT)
    undefined = summary.pop("undefined")
    assert summary.pop("average_accuracy") == pytest.approx(0.85)
    assert set(summary.values()) == {None}
    assert summary.keys() == undefined.keys()
    assert all("jointly" in reason for reason in undefined.values())


def test_a_full_summary_has_every_metric():
    summary = summarise(R)
    assert summary.pop("undefined") == {}
    assert all(math.isfinite(value) for value in summary.values())


def test_nothing_measured_is_said_for_every_metric():
    assert all(
        v is None for k, v in summarise(empty_matrix(3)).items() if k != "undefined"
    )


@pytest.mark.parametrize(
    "matrix, message",
    [
        (torch.rand(3, 3), "N \\+ 1 rows"),
        (torch.rand(4), "N \\+ 1 rows"),
        (torch.tensor([[0.1], [97.0]]), "fractions.*97"),
    ],
)
def test_what_is_no_accuracy_matrix_is_refused(matrix, message):
    with pytest.raises(ValueError, match=message):
        average_accuracy(matrix)


def test_a_matrix_of_no_experiences_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        empty_matrix(0)
