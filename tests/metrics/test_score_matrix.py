"""The metrics against numbers worked out by hand."""

import math

import pytest
import torch

from kancl.metrics.score_matrix import (
    ACCURACY,
    RMSE,
    UndefinedMetric,
    average_accuracy,
    average_rmse,
    average_seen_accuracy,
    backward_transfer,
    empty_matrix,
    forgetting,
    forward_transfer,
    largest_rmse_increase,
    learning_accuracy,
    learning_rmse,
    old_peak_rmse_increase,
    phase_rmse,
    rmse_increases,
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


ERRORS = torch.tensor(
    [[9.0, 9.0, 9.0], [0.1, 9.0, 9.0], [0.7, 0.2, 9.0], [0.4, 0.3, 0.6]],
    dtype=torch.float64,
)


def test_errors_worked_by_hand():
    assert average_rmse(ERRORS) == pytest.approx(1.3 / 3)
    assert phase_rmse(ERRORS) == pytest.approx([0.1, 0.2, 0.6])
    assert learning_rmse(ERRORS) == pytest.approx(0.3)
    assert rmse_increases(ERRORS) == pytest.approx([0.6, 0.3])  # 0.7-0.1; max(0.3, 0.1)
    assert old_peak_rmse_increase(ERRORS) == pytest.approx(0.3)
    assert largest_rmse_increase(ERRORS) == pytest.approx(0.6)


def test_errors_that_were_not_measured_are_undefined_and_say_why():
    joint = torch.full((4, 3), NAN, dtype=torch.float64)
    joint[-1] = 0.1
    summary = summarise(joint, RMSE)
    assert summary["average_rmse"] == pytest.approx(0.1)
    assert summary["old_peak_rmse_increase"] is None
    assert "was not measured" in summary["undefined"]["phase_rmse"]
    with pytest.raises(UndefinedMetric, match="nothing is older"):
        rmse_increases(torch.zeros(2, 1, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"N \+ 1 rows"):
        average_rmse(torch.zeros(2, 2))


def test_scores_per_sample():
    outputs, targets = torch.tensor([[1.0], [5.0]]), torch.tensor([1.0, 2.0])
    squares = RMSE.per_sample(outputs, targets)
    assert squares.tolist() == [0.0, 9.0]
    assert RMSE.reduce(squares.mean()).item() == pytest.approx(4.5**0.5)
    assert RMSE.loss()(outputs, targets).item() == 4.5
    logits = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    hits = ACCURACY.per_sample(logits, torch.tensor([1, 1]))
    assert hits.tolist() == [True, False]
    assert ACCURACY.reduce(hits.double().mean()).item() == 0.5


def test_errors_may_exceed_1():
    assert average_rmse(torch.full((2, 1), 97.0)) == 97
