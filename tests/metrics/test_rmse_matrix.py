"""What a stream of regressions has lost, on a matrix worked by hand."""

import pytest
import torch

from kancl.metrics.accuracy_matrix import UndefinedMetric
from kancl.metrics.rmse_matrix import (
    average_rmse,
    largest_rmse_increase,
    learning_rmse,
    old_peak_rmse_increase,
    phase_rmse,
    rmse_increases,
    summarise_rmse,
)
from kancl.metrics.score import ACCURACY, RMSE

nan = float("nan")
R = torch.tensor(
    [[9.0, 9.0, 9.0], [0.1, 9.0, 9.0], [0.7, 0.2, 9.0], [0.4, 0.3, 0.6]],
    dtype=torch.float64,
)


def test_values_worked_by_hand():
    assert average_rmse(R) == pytest.approx(1.3 / 3)
    assert phase_rmse(R) == pytest.approx([0.1, 0.2, 0.6])
    assert learning_rmse(R) == pytest.approx(0.3)
    assert rmse_increases(R) == pytest.approx([0.6, 0.3])  # 0.7-0.1; max(0.3, 0.1)
    assert old_peak_rmse_increase(R) == pytest.approx(0.3)
    assert largest_rmse_increase(R) == pytest.approx(0.6)


def test_what_was_not_measured_is_undefined_and_says_why():
    joint = torch.full((4, 3), nan, dtype=torch.float64)
    joint[-1] = 0.1
    summary = summarise_rmse(joint)
    assert summary["average_rmse"] == pytest.approx(0.1)
    assert summary["old_peak_rmse_increase"] is None
    assert "was not measured" in summary["undefined"]["phase_rmse"]
    with pytest.raises(UndefinedMetric, match="nothing is older"):
        rmse_increases(torch.zeros(2, 1, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"N \+ 1 rows"):
        average_rmse(torch.zeros(2, 2))


def test_scores_of_samples():
    outputs, targets = torch.tensor([[1.0], [5.0]]), torch.tensor([1.0, 2.0])
    squares = RMSE.of_samples(outputs, targets)
    assert squares.tolist() == [0.0, 9.0]
    assert RMSE.of_mean(squares.mean()).item() == pytest.approx(4.5**0.5)
    assert RMSE.loss()(outputs, targets).item() == 4.5
    logits = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    hits = ACCURACY.of_samples(logits, torch.tensor([1, 1]))
    assert hits.tolist() == [True, False]
    assert ACCURACY.of_mean(hits.double().mean()).item() == 0.5
