"""What a stream of regressions has learned and lost: the matrix of RMSEs.

``R[i][j]``: root mean square error on experience ``j`` (1..N) after training on ``i``
experiences, ``N + 1`` rows, NaN where it was not measured. As for accuracies, a metric
without a value raises :class:`UndefinedMetric`. Lost is what an error has grown by
since its experience was trained.
"""

from typing import Any, Callable

import torch
from torch import Tensor

from kancl.metrics.accuracy_matrix import UndefinedMetric, evaluated


def average_rmse(matrix: Tensor) -> float:
    """Over all experiences in the end: ``mean_j R[N][j]``."""
    return float(_measured(matrix, matrix[-1], "at the end").mean())


def phase_rmse(matrix: Tensor) -> list[float]:
    """On each experience just after it was trained: ``R[j][j]``."""
    diagonal = matrix[1:].diagonal()
    return _measured(matrix, diagonal, "after each experience").tolist()


def learning_rmse(matrix: Tensor) -> float:
    """The mean of ``phase_rmse``: what never was learned cannot be lost."""
    errors = phase_rmse(matrix)
    return sum(errors) / len(errors)


def rmse_increases(matrix: Tensor) -> list[float]:
    """After each experience but the first, the largest increase on an earlier one:
    ``max_{j<i} R[i][j] - R[j][j]``, ``i = 2..N``.
    """
    learned = torch.tensor(phase_rmse(matrix), dtype=matrix.dtype)
    n = matrix.shape[1]
    if n == 1:
        raise UndefinedMetric("there is a single experience: nothing is older")
    rows = [matrix[i, : i - 1] - learned[: i - 1] for i in range(2, n + 1)]
    return [
        float(_measured(matrix, row, "after each experience").max()) for row in rows
    ]


def old_peak_rmse_increase(matrix: Tensor) -> float:
    """The largest increase on an old experience at the end."""
    return rmse_increases(matrix)[-1]


def largest_rmse_increase(matrix: Tensor) -> float:
    """The largest increase on an old experience after any."""
    return max(rmse_increases(matrix))


METRICS: dict[str, Callable[[Tensor], float | list[float]]] = {
    "average_rmse": average_rmse,
    "learning_rmse": learning_rmse,
    "phase_rmse": phase_rmse,
    "rmse_increases": rmse_increases,
    "old_peak_rmse_increase": old_peak_rmse_increase,
    "largest_rmse_increase": largest_rmse_increase,
}


def summarise_rmse(matrix: Tensor) -> dict[str, Any]:
    """Every metric by name; None where undefined, with the reason under
    ``"undefined"``: ``{name: reason}``.
    """
    return evaluated(METRICS, matrix)


def _measured(matrix: Tensor, values: Tensor, when: str) -> Tensor:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] + 1:
        raise ValueError(
            "a matrix of RMSEs has N + 1 rows (row 0: before training) and N columns, "
            f"got shape {tuple(matrix.shape)}"
        )
    if bool(values.isnan().any()):
        raise UndefinedMetric(f"the RMSE {when} was not measured")
    return values
