"""What the raw series of a run amount to: curves, ends of trainings, metrics."""

import re
from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Any, NamedTuple

from torch import Tensor

from kancl.metrics.continual import summarise_curves
from kancl.metrics.forecast import RANKED_BY, judge
from kancl.metrics.score_matrix import (
    ACCURACY,
    RMSE,
    Score,
    matrix_from_series,
    summarise,
)
from kancl.runs.names import CURVE, FORECAST, LOSS, RMSE_CURVE, TEST_RMSE


class Measurement(NamedTuple):
    """One row of ``metrics.csv``."""

    iteration: int  # training iterations done when it was measured
    experience: int | None  # that it is about (0-based); None: about none
    name: str
    value: float  # accuracies are fractions in [0, 1], RMSEs in the targets' unit


Points = tuple[tuple[int, float], ...]  # (iteration, value), in the order measured


def series_of(measurements: Iterable[Measurement], name: str) -> tuple[Points, ...]:
    """The points of one name for each experience; empty if none were measured."""
    points: dict[int, list[tuple[int, float]]] = {}
    for m in measurements:
        if m.name == name and m.experience is not None:
            points.setdefault(m.experience, []).append((m.iteration, m.value))
    return tuple(tuple(points.get(k, ())) for k in range(max(points, default=-1) + 1))


def training_ends(measurements: Iterable[Measurement]) -> tuple[tuple[int, ...], bool]:
    """Iterations at which each training ended, and whether it was on all experiences
    at once.
    """
    ends = {m.experience: m.iteration for m in measurements if m.name == LOSS}
    return tuple(sorted(ends.values())), None in ends


def matrix_of(
    measurements: Sequence[Measurement], name: str, n_experiences: int
) -> Tensor:
    """The score matrix ``(N + 1, N)`` that a name's points amount to."""
    points = dict(enumerate(series_of(measurements, name)))
    ends, jointly = training_ends(measurements)
    return matrix_from_series(points, ends, n_experiences, jointly)


def score_of(measurements: Iterable[Measurement]) -> Score:
    """What a run is judged by: RMSEs if any were measured, else accuracies."""
    errors = any(m.name in (TEST_RMSE, RMSE_CURVE) for m in measurements)
    return RMSE if errors else ACCURACY


def forecasts_of(
    measurements: Iterable[Measurement],
) -> dict[str, dict[tuple[int, int], float]]:
    """Forecasts by kind, then by old and new experience, 0-based."""
    name = re.compile(rf"{FORECAST}_([a-z]+)_([a-z_]+)_before_([0-9]+)")
    found: dict[str, dict[tuple[int, int], float]] = {}
    for m in measurements:
        if m.experience is not None and (parts := name.fullmatch(m.name)):
            kind, what, new = parts.groups()
            if RANKED_BY.get(kind) == what and isfinite(m.value):
                found.setdefault(kind, {})[m.experience, int(new) - 1] = m.value
    return found


def all_metrics(
    matrix: Tensor, measurements: Sequence[Measurement], score: Score = ACCURACY
) -> dict[str, Any]:
    """Metrics of the score matrix and, for accuracies, of the forgetting curves between
    its rows and of forecasts; None where undefined, for the reason under ``"undefined"``.
    """
    at_boundaries, curves = summarise(matrix, score), series_of(measurements, CURVE)
    if not score.higher_is_better:
        return at_boundaries
    ends = training_ends(measurements) if curves else ((), False)
    between = summarise_curves(curves, *ends)
    parts = (
        at_boundaries,
        between,
        judge(forecasts_of(measurements), matrix),
    )
    undefined = {k: why for part in parts for k, why in part["undefined"].items()}
    return {k: v for part in parts for k, v in part.items()} | {"undefined": undefined}
