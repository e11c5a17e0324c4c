"""Scores, and the continual-learning metrics of a run's score matrix."""

# R has N + 1 rows and N columns for N experiences: R[i][j] is the score on experience j
# (1..N) after training on i experiences; row 0 is before training; NaN: not measured.

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Score:
    """What stands for how well a network does; never below 0."""

    name: str  # in the names of measurements, test_<name>
    title: str  # for readers
    higher_is_better: bool
    loss: Callable[[], nn.Module]
    per_sample: Callable[[Tensor, Tensor], Tensor]  # outputs, targets -> (batch,)
    reduce: Callable[[Tensor], Tensor]  # the mean of these -> the score
    largest: float


class SquaredError(nn.Module):
    """Mean squared error of one output: ``(batch, 1)``, ``(batch,)`` -> ``()``."""

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return _squared_errors(outputs, targets).mean()


def _squared_errors(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.squeeze(1) - targets).square()


def _hits(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.argmax(1) == targets


ACCURACY = Score(
    "accuracy", "accuracy", True, nn.CrossEntropyLoss, _hits, torch.positive, 1.0
)
RMSE = Score("rmse", "RMSE", False, SquaredError, _squared_errors, torch.sqrt, inf)


class UndefinedMetric(ValueError):
    """The metric has no value for this run; the message says why."""


def empty_matrix(n_experiences: int) -> Tensor:
    """A score matrix in which nothing is measured yet, ``(N + 1, N)``."""
    if n_experiences < 1:
        raise ValueError(f"n_experiences must be at least 1, got {n_experiences}")
    shape = (n_experiences + 1, n_experiences)
    return torch.full(shape, float("nan"), dtype=torch.float64)


def matrix_from_series(
    series: Mapping[int, Iterable[tuple[int, float]]],
    boundaries: Sequence[int],
    n_experiences: int,
    trains_jointly: bool = False,
) -> Tensor:
    """The score matrix ``(N + 1, N)`` that a run's raw series amount to.

    Args:
        series: per experience (0-based), ``(iteration, score)`` of evaluations.
        boundaries: iterations at which each experience trained so far ended.
        trains_jointly: the run was trained once, on all experiences.
    """
    matrix = empty_matrix(n_experiences)
    rows = [0, n_experiences] if trains_jointly else range(n_experiences + 1)
    row_at = dict(zip([0, *boundaries], rows))
    for experience, points in series.items():
        for iteration, score in points:
            if iteration in row_at and 0 <= experience < n_experiences:
                matrix[row_at[iteration], experience] = score
    return matrix


def average_accuracy(matrix: Tensor) -> float:
    """Mean accuracy over all experiences after the last one: ``mean_j R[N][j]``."""
    return float(_measured(matrix, _LAST)[-1].mean())


def average_seen_accuracy(matrix: Tensor, after: int | None = None) -> float:
    """Mean accuracy on the experiences seen so far: ``mean_{j<=i} R[i][j]``.

    Args:
        after: ``i``, the number of experiences trained (undefined at 0); default: all.
    """
    r = _checked(matrix, ACCURACY)
    i = len(r) - 1 if after is None else after
    if not 0 <= i < len(r):
        raise ValueError(f"after must be between 0 and {len(r) - 1}, got {after}")
    if i == 0:
        raise UndefinedMetric("nothing is seen before training")
    _need_row(r[:, :i], i, ACCURACY)
    return float(r[i, :i].mean())


def learning_accuracy(matrix: Tensor) -> float:
    """Mean accuracy on each experience just after it was trained: ``mean_j R[j][j]``."""
    return float(_measured(matrix, _TRAINED)[1:].diagonal().mean())


def forgetting(matrix: Tensor) -> float:
    """Mean fall from the best: ``mean_{j<N} (max_{1<=i<N} R[i][j] - R[N][j])``.

    What an untrained network guesses right was never learned: row 0 does not count.

    Source: Chaudhry et al. 2018, arXiv:1801.10112.
    """
    r = _measured(matrix, _TRAINED, several=True)
    return float((r[1:-1].amax(0) - r[-1])[:-1].mean())


def backward_transfer(matrix: Tensor) -> float:
    """Mean effect of later training: ``mean_{j<N} (R[N][j] - R[j][j])``.

    Source: Lopez-Paz & Ranzato 2017, arXiv:1706.08840, for forward transfer too.
    """
    r = _measured(matrix, _TRAINED, several=True)
    return float((r[-1] - r[1:].diagonal())[:-1].mean())


def forward_transfer(matrix: Tensor) -> float:
    """Mean head start: ``mean_{j>1} (R[j-1][j] - R[0][j])``."""
    r = _measured(matrix, slice(1, -1), several=True)
    _need_row(r, 0, ACCURACY)
    return float((r[:-1].diagonal() - r[0])[1:].mean())


def average_rmse(matrix: Tensor) -> float:
    """Mean error over all experiences after the last one: ``mean_j R[N][j]``."""
    return float(_measured(matrix, _LAST, RMSE)[-1].mean())


def phase_rmse(matrix: Tensor) -> list[float]:
    """Error on each experience just after it was trained: ``R[j][j]``."""
    return _measured(matrix, _TRAINED, RMSE)[1:].diagonal().tolist()


def learning_rmse(matrix: Tensor) -> float:
    """Mean of ``phase_rmse``: what never was learned cannot be lost."""
    errors = phase_rmse(matrix)
    return sum(errors) / len(errors)


def rmse_increases(matrix: Tensor) -> list[float]:
    """Largest increases on earlier ones: ``max_{j<i} R[i][j] - R[j][j]``, ``i = 2..N``."""
    r = _measured(matrix, _TRAINED, RMSE, several=True)
    learned = r[1:].diagonal()
    return [float((r[i, : i - 1] - learned[: i - 1]).max()) for i in range(2, len(r))]


def old_peak_rmse_increase(matrix: Tensor) -> float:
    """The largest increase on an old experience at the end."""
    return rmse_increases(matrix)[-1]


def largest_rmse_increase(matrix: Tensor) -> float:
    """The largest increase on an old experience after any."""
    return max(rmse_increases(matrix))


def by_name(*metrics: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    return {metric.__name__: metric for metric in metrics}


METRICS = by_name(
    *(average_accuracy, learning_accuracy, forgetting),
    *(backward_transfer, forward_transfer),
)
RMSE_METRICS = by_name(
    *(average_rmse, learning_rmse, phase_rmse, rmse_increases),
    *(old_peak_rmse_increase, largest_rmse_increase),
)


def summarise(matrix: Tensor, score: Score = ACCURACY) -> dict[str, Any]:
    """Every metric of such scores, see ``evaluate_metrics``."""
    return evaluate_metrics(METRICS if score.higher_is_better else RMSE_METRICS, matrix)


def evaluate_metrics(
    metrics: Mapping[str, Callable[..., Any]], *arguments: Any
) -> dict[str, Any]:
    """Every metric; None if undefined, for the reason under ``undefined`` by its name."""
    summary, undefined = dict[str, Any].fromkeys(metrics), {}
    for name, metric in metrics.items():
        try:
            summary[name] = metric(*arguments)
        except UndefinedMetric as reason:
            undefined[name] = str(reason)
    return {**summary, "undefined": undefined}


def need_several(n_experiences: int) -> None:
    if n_experiences == 1:
        raise UndefinedMetric(
            "there is a single experience: nothing is older, nothing newer than it"
        )


_LAST, _TRAINED = slice(-1, None), slice(1, None)


def _measured(
    matrix: Tensor, rows: slice, score: Score = ACCURACY, *, several: bool = False
) -> Tensor:
    """The matrix, if these rows are there (and, ``several``, more than one experience)."""
    r = _checked(matrix, score)
    if several:
        need_several(r.shape[1])
    between, on_the_way = r[1:-1], rows != _LAST and len(r) > 2
    if on_the_way and between.isnan().all() and not r[-1].isnan().any():
        raise UndefinedMetric(
            "the run was trained on all experiences at once (jointly), so "
            f"{score.title} after each experience was not measured"
        )
    for row in range(len(r))[rows]:
        _need_row(r, row, score)
    return r


def _checked(matrix: Tensor, score: Score) -> Tensor:
    r = torch.as_tensor(matrix, dtype=torch.float64)
    if r.ndim != 2 or r.shape[1] < 1 or r.shape[0] != r.shape[1] + 1:
        raise ValueError(
            f"a matrix of {score.title} has N + 1 rows (row 0: before training) and N "
            f"columns, got shape {tuple(r.shape)}"
        )
    outside = r[(r < 0) | (r > score.largest)]
    if len(outside):
        kind = "fractions between 0 and 1" if score is ACCURACY else "0 or more"
        raise ValueError(f"values of {score.title} are {kind}, got {outside[0]:g}")
    return r


def _need_row(r: Tensor, row: int, score: Score) -> None:
    if r[row].isnan().any():
        when = f"after {row} of {len(r) - 1} experiences" if row else "before training"
        raise UndefinedMetric(f"{score.title} {when} was not measured")
