"""Continual-learning metrics of an accuracy matrix.

``R`` has ``N + 1`` rows and ``N`` columns for ``N`` experiences: ``R[i][j]`` is the
accuracy on experience ``j`` (1..N) after training on ``i`` experiences; row 0 is
before training. Entries that were not measured are NaN. A metric that needs such an
entry, or that has no meaning for the run, raises :class:`UndefinedMetric` with the
reason: it is never 0 or NaN.

Source: Lopez-Paz & Ranzato 2017, arXiv:1706.08840 (transfer); Chaudhry et al. 2018,
arXiv:1801.10112 (forgetting).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable

import torch
from torch import Tensor


class UndefinedMetric(ValueError):
    """The metric has no value for this run; the message says why."""


def empty_matrix(n_experiences: int) -> Tensor:
    """An accuracy matrix in which nothing is measured yet, ``(N + 1, N)``."""
    if n_experiences < 1:
        raise ValueError(f"n_experiences must be at least 1, got {n_experiences}")
    shape = (n_experiences + 1, n_experiences)
    return torch.full(shape, float("nan"), dtype=torch.float64)


def matrix_from_series(
    series: Mapping[int, Iterable[tuple[int, float]]],
    borders: Sequence[int],
    n_experiences: int,
    trains_jointly: bool = False,
) -> Tensor:
    """The accuracy matrix ``(N + 1, N)`` that a run's raw series amount to.

    Args:
        series: per experience (0-based), ``(iteration, accuracy)`` of evaluations.
        borders: iterations at which each experience trained so far ended.
        trains_jointly: the run was trained once, on all experiences.
    """
    matrix = empty_matrix(n_experiences)
    rows = [0, n_experiences] if trains_jointly else range(n_experiences + 1)
    row_at = dict(zip([0, *borders], rows))
    for experience, points in series.items():
        for iteration, accuracy in points:
            if iteration in row_at and 0 <= experience < n_experiences:
                matrix[row_at[iteration], experience] = accuracy
    return matrix


def average_accuracy(matrix: Tensor) -> float:
    """Mean accuracy over all experiences after the last one: ``mean_j R[N][j]``.

    Raises: UndefinedMetric if the last row is not measured.
    """
    r = _checked(matrix)
    _need_rows(r, [len(r) - 1])
    return float(r[-1].mean())


def average_seen_accuracy(matrix: Tensor, after: int | None = None) -> float:
    """Mean accuracy on the experiences seen so far: ``mean_{j<=i} R[i][j]``.

    Args:
        after: ``i``, the number of experiences trained; the last one by default.

    Raises: UndefinedMetric for ``after=0`` (nothing is seen) or a missing row.
    """
    r = _checked(matrix)
    i = len(r) - 1 if after is None else after
    if not 0 <= i < len(r):
        raise ValueError(f"after must be between 0 and {len(r) - 1}, got {after}")
    if i == 0:
        raise UndefinedMetric("nothing is seen before training")
    _need_rows(r, [i], columns=i)
    return float(r[i, :i].mean())


def learning_accuracy(matrix: Tensor) -> float:
    """Mean accuracy on each experience just after it was trained: ``mean_j R[j][j]``.

    Raises: UndefinedMetric if a row 1..N is missing (say a jointly trained run).
    """
    r = _checked(matrix)
    n = r.shape[1]
    if n > 1:
        _refuse_joint(r)
    _need_rows(r, range(1, n + 1))
    return float(r[1:].diagonal().mean())


def forgetting(matrix: Tensor) -> float:
    """Mean fall from the best: ``mean_{j<N} (max_{1<=i<N} R[i][j] - R[N][j])``.

    Row 0 does not enter the maximum: what an untrained network guesses right was
    never learned. Negative if accuracy on old experiences rose.

    Raises: UndefinedMetric for a single experience or if a row 1..N is missing.
    """
    r = _continual(matrix)
    best = r[1:-1].amax(0)
    return float((best - r[-1])[:-1].mean())


def backward_transfer(matrix: Tensor) -> float:
    """Mean effect of later training: ``mean_{j<N} (R[N][j] - R[j][j])``.

    Raises: UndefinedMetric for a single experience or if a row 1..N is missing.
    """
    r = _continual(matrix)
    return float((r[-1] - r[1:].diagonal())[:-1].mean())


def forward_transfer(matrix: Tensor) -> float:
    """Mean head start: ``mean_{j>1} (R[j-1][j] - R[0][j])``.

    Raises: UndefinedMetric for a single experience or if a row 0..N-1 is missing.
    """
    r = _continual(matrix, last=False)
    _need_rows(r, [0])
    return float((r[:-1].diagonal() - r[0])[1:].mean())


METRICS: dict[str, Callable[[Tensor], float]] = {
    "average_accuracy": average_accuracy,
    "learning_accuracy": learning_accuracy,
    "forgetting": forgetting,
    "backward_transfer": backward_transfer,
    "forward_transfer": forward_transfer,
}


def summarise(matrix: Tensor) -> dict[str, Any]:
    """Every metric by name; None where undefined, with the reason under
    ``"undefined"``: ``{name: reason}``.
    """
    return evaluated(METRICS, matrix)


def evaluated(
    metrics: Mapping[str, Callable[[Tensor], Any]], matrix: Tensor
) -> dict[str, Any]:
    """The same for other metrics of a matrix."""
    summary: dict[str, Any] = {}
    undefined: dict[str, str] = {}
    for name, metric in metrics.items():
        try:
            summary[name] = metric(matrix)
        except UndefinedMetric as reason:
            summary[name] = None
            undefined[name] = str(reason)
    summary["undefined"] = undefined
    return summary


def _checked(matrix: Tensor) -> Tensor:
    r = torch.as_tensor(matrix, dtype=torch.float64)
    if r.ndim != 2 or r.shape[1] < 1 or r.shape[0] != r.shape[1] + 1:
        raise ValueError(
            "an accuracy matrix has N + 1 rows (row 0: before training) and N "
            f"columns, got shape {tuple(r.shape)}"
        )
    outside = r[~r.isnan() & ~((r >= 0) & (r <= 1))]
    if len(outside):
        raise ValueError(
            f"accuracies are fractions between 0 and 1, got {outside[0].item():g}"
        )
    return r


def _continual(matrix: Tensor, last: bool = True) -> Tensor:
    """The matrix, if rows 1..N (or 1..N-1) of two or more experiences are there."""
    r = _checked(matrix)
    n = r.shape[1]
    if n == 1:
        raise UndefinedMetric(
            "there is a single experience: nothing is learned before or after it"
        )
    _refuse_joint(r)
    _need_rows(r, range(1, n + 1 if last else n))
    return r


def _refuse_joint(r: Tensor) -> None:
    between = r[1:-1]
    if between.isnan().all() and not r[-1].isnan().any():
        raise UndefinedMetric(
            "the run was trained on all experiences at once (jointly), so there is no "
            "accuracy after each experience"
        )


def _need_rows(
    r: Tensor, rows: "range | list[int]", columns: int | None = None
) -> None:
    for row in rows:
        if r[row, :columns].isnan().any():
            when = (
                f"after {row} of {r.shape[1]} experiences" if row else "before training"
            )
            raise UndefinedMetric(f"accuracy {when} was not measured")
