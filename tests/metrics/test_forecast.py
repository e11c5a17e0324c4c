"""Correlations of a forecast with what was lost, against hand-made runs."""

import pytest
import torch
from scipy.stats import pearsonr, rankdata
from torch import nn

from kancl.metrics.forecast import (
    judge,
    partial_rho,
    rho,
    shuffled_rho,
    standing,
)
from kancl.metrics.locality import falls
from kancl.metrics.score_matrix import UndefinedMetric


def a_matrix(n: int = 6, fall: float = 0.1) -> torch.Tensor:
    """Accuracies that fall by unlike amounts once an experience is trained."""
    matrix = torch.rand(n + 1, n, dtype=torch.float64) * 0.1
    for s in range(n):
        for t in range(s, n):
            before = matrix[t, s] if t > s else 0.95
            matrix[t + 1, s] = before - (t > s) * fall * torch.rand(())
    return matrix


def test_the_truth_ranks_itself_and_the_control_ranks_nothing() -> None:
    matrix = a_matrix()
    lost = falls(matrix)
    assert rho(lost, matrix) == pytest.approx(1)
    assert rho({pair: -v for pair, v in lost.items()}, matrix) == pytest.approx(-1)
    assert partial_rho(lost, matrix) == pytest.approx(1)
    assert abs(shuffled_rho(lost, matrix)) < 0.2
    one = [shuffled_rho(falls(m), m, n=1) for m in (a_matrix() for _ in range(5))]
    assert len(set(one)) == 5 and max(map(abs, one)) < 1


def test_the_accuracy_before_is_taken_out() -> None:
    """By what regressing its ranks out of both sides leaves."""
    matrix = a_matrix()
    pairs = sorted(falls(matrix))
    lost = [falls(matrix)[pair] for pair in pairs]
    before = [float(matrix[t, s]) for s, t in pairs]
    noise = torch.rand(len(pairs)).tolist()
    forecast = {p: v + b + e / 2 for p, v, b, e in zip(pairs, lost, before, noise)}
    foretold = [forecast[pair] for pair in pairs]
    f, y, b = (torch.as_tensor(rankdata(v)) for v in (foretold, lost, before))
    design = torch.stack([torch.ones_like(b), b], 1)
    left = [v - design @ torch.linalg.lstsq(design, v).solution for v in (f, y)]
    assert partial_rho(forecast, matrix) == pytest.approx(pearsonr(*left).statistic)
    known = {pair: float(matrix[pair[1], pair[0]]) for pair in pairs}
    with pytest.raises(UndefinedMetric, match="tells all"):
        partial_rho(known, matrix)


def test_where_nothing_is_forgotten_no_number_is_given() -> None:
    matrix = a_matrix(fall=0.002)
    told = judge({"probe": falls(matrix)}, matrix)
    assert told["forecast_probe_rho"] is None
    why = told["undefined"]["forecast_probe_rho"]
    assert "nothing to forecast" in why and "less than a point" in why
    assert judge({}, matrix) == {"undefined": {}}


def test_how_a_network_stands() -> None:
    y = torch.tensor([0, 1, 1, 0])
    x = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 0.0]])
    now = standing(nn.Identity(), x, y, torch.zeros(4, dtype=torch.long))
    right = torch.log1p(torch.exp(torch.tensor(-2.0, dtype=torch.float64)))
    assert now.accuracy == 0.75
    assert now.loss == pytest.approx(float(right) + 2 / 4)
    later = standing(nn.Identity(), -x, y, torch.zeros(4, dtype=torch.long))
    assert now.lost(later).accuracy == 0.5
    assert now.lost(later).loss == pytest.approx(later.loss - now.loss)
