"""Continual-learning metrics of a score matrix: accuracies, or the RMSEs of a regression.

``R`` has ``N + 1`` rows and ``N`` columns for ``N`` experiences: ``R[i][j]`` is the
score on experience ``j`` (1..N) after training on ``i`` experiences; row 0 is before
training. Entries that were not measured are NaN. A metric that needs such an entry, or
that has no meaning for the run, raises :class:`UndefinedMetric` with the reason: it is
never 0 or NaN.

Source: Lopez-Paz & Ranzato 2017, arXiv:1706.08840 (transfer); Chaudhry et al. 2018,
arXiv:1801.10112 (forgetting).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kancl.metrics.score import ACCURACY, RMSE, Score


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


# metrics; each raises UndefinedMetric where a row that it needs is missing


def average_accuracy(matrix: Tensor) -> float:
    """Mean accuracy over all experiences after the last one: ``mean_j R[N][j]``."""
    return _final_mean(matrix, ACCURACY)


def average_seen_accuracy(matrix: Tensor, after: int | None = None) -> float:
    """Mean accuracy on the experiences seen so far: ``mean_{j<=i} R[i][j]``.

    Args:
        after: ``i``, the number of experiences trained (at 0 nothing is seen, and the
            metric undefined); default: all.
    """
    r = _checked(matrix)
    i = len(r) - 1 if after is None else after
    if not 0 <= i < len(r):
        raise ValueError(f"after must be between 0 and {len(r) - 1}, got {after}")
    if i == 0:
        raise UndefinedMetric("nothing is seen before training")
    _need_rows(r, [i], n_columns=i)
    return float(r[i, :i].mean())


def learning_accuracy(matrix: Tensor) -> float:
    """Mean accuracy on each experience just after it was trained: ``mean_j R[j][j]``."""
    return float(_sequential(matrix)[1:].diagonal().mean())


def forgetting(matrix: Tensor) -> float:
    """Mean fall from the best: ``mean_{j<N} (max_{1<=i<N} R[i][j] - R[N][j])``.

    Row 0 does not enter the maximum: what an untrained network guesses right was
    never learned. Negative if accuracy on old experiences rose.
    """
    r = _continual(matrix)
    best = r[1:-1].amax(0)
    return float((best - r[-1])[:-1].mean())


def backward_transfer(matrix: Tensor) -> float:
    """Mean effect of later training: ``mean_{j<N} (R[N][j] - R[j][j])``."""
    r = _continual(matrix)
    return float((r[-1] - r[1:].diagonal())[:-1].mean())


def forward_transfer(matrix: Tensor) -> float:
    """Mean head start: ``mean_{j>1} (R[j-1][j] - R[0][j])``."""
    r = _continual(matrix, last=False)
    _need_rows(r, [0])
    return float((r[:-1].diagonal() - r[0])[1:].mean())


def average_rmse(matrix: Tensor) -> float:
    """Mean error over all experiences after the last one: ``mean_j R[N][j]``."""
    return _final_mean(matrix, RMSE)


def phase_rmse(matrix: Tensor) -> list[float]:
    """Error on each experience just after it was trained: ``R[j][j]``."""
    return _sequential(matrix, RMSE)[1:].diagonal().tolist()


def learning_rmse(matrix: Tensor) -> float:
    """Mean of ``phase_rmse``: what never was learned cannot be lost."""
    errors = phase_rmse(matrix)
    return sum(errors) / len(errors)


def rmse_increases(matrix: Tensor) -> list[float]:
    """After each experience but the first, the largest increase on an earlier one:
    ``max_{j<i} R[i][j] - R[j][j]``, ``i = 2..N``.
    """
    r = _continual(matrix, RMSE)
    learned = r[1:].diagonal()
    return [float((r[i, : i - 1] - learned[: i - 1]).max()) for i in range(2, len(r))]


def old_peak_rmse_increase(matrix: Tensor) -> float:
    """The largest increase on an old experience at the end."""
    return rmse_increases(matrix)[-1]


def largest_rmse_increase(matrix: Tensor) -> float:
    """The largest increase on an old experience after any."""
    return max(rmse_increases(matrix))


METRICS: dict[str, Callable[[Tensor], float]] = {
    metric.__name__: metric
    for metric in (
        average_accuracy,
        learning_accuracy,
        forgetting,
        backward_transfer,
        forward_transfer,
    )
}
RMSE_METRICS: dict[str, Callable[[Tensor], float | list[float]]] = {
    metric.__name__: metric
    for metric in (
        average_rmse,
        learning_rmse,
        phase_rmse,
        rmse_increases,
        old_peak_rmse_increase,
        largest_rmse_increase,
    )
}


def summarise(matrix: Tensor, score: Score = ACCURACY) -> dict[str, Any]:
    """Every metric of such scores, see ``evaluate_metrics``."""
    metrics = METRICS if score.higher_is_better else RMSE_METRICS
    return evaluate_metrics(metrics, matrix)


def evaluate_metrics(
    metrics: Mapping[str, Callable[..., Any]], *arguments: Any
) -> dict[str, Any]:
    """Every metric by name; None where undefined, with the reason under
    ``"undefined"``: ``{name: reason}``.
    """
    summary: dict[str, Any] = {}
    undefined: dict[str, str] = {}
    for name, metric in metrics.items():
        try:
            summary[name] = metric(*arguments)
        except UndefinedMetric as reason:
            summary[name] = None
            undefined[name] = str(reason)
    return {**summary, "undefined": undefined}


# what metrics need


def _checked(matrix: Tensor, score: Score = ACCURACY) -> Tensor:
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


def _final_mean(matrix: Tensor, score: Score) -> float:
    r = _checked(matrix, score)
    _need_rows(r, [len(r) - 1], score)
    return float(r[-1].mean())


def _sequential(
    matrix: Tensor, score: Score = ACCURACY, *, last: bool = True
) -> Tensor:
    """The matrix, if rows 1..N (or 1..N-1) are there."""
    r = _checked(matrix, score)
    between = r[1:-1]
    if len(between) and between.isnan().all() and not r[-1].isnan().any():
        raise UndefinedMetric(
            "the run was trained on all experiences at once (jointly), so "
            f"{score.title} after each experience was not measured"
        )
    _need_rows(r, range(1, len(r) if last else len(r) - 1), score)
    return r


def _continual(matrix: Tensor, score: Score = ACCURACY, *, last: bool = True) -> Tensor:
    """``_sequential`` of two or more experiences."""
    if _checked(matrix, score).shape[1] == 1:
        raise UndefinedMetric(
            "there is a single experience: nothing is older, nothing newer than it"
        )
    return _sequential(matrix, score, last=last)


def _need_rows(
    r: Tensor,
    rows: Iterable[int],
    score: Score = ACCURACY,
    n_columns: int | None = None,
) -> None:
    for row in rows:
        if r[row, :n_columns].isnan().any():
            n = r.shape[1]
            when = f"after {row} of {n} experiences" if row else "before training"
            raise UndefinedMetric(f"{score.title} {when} was not measured")
