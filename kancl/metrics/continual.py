"""Metrics of continual evaluation: what accuracy does between two borders.

A curve is the accuracy on one experience at many training iterations, ``((iteration,
accuracy), ...)``; border k is the iteration at which training on experience k ended.
The accuracy matrix sees the curves at the borders alone, so not what is lost and won
back between them.

A curve measured on s samples has a standard error of up to ``0.5 / sqrt(s)`` per point;
the lowest of many such points lies below the lowest accuracy by about two of them.

Source: De Lange, van de Ven, Tuytelaars 2023, arXiv:2205.13452, section 3 (min-ACC,
WC-ACC, windowed forgetting and plasticity). The stability gap is theirs as a thing seen;
its depth and the time of recovery are made numbers here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from kancl.metrics.score_matrix import UndefinedMetric, evaluate_metrics

Curve = Sequence[tuple[int, float]]

WINDOW = 100
"""Iterations of the windowed metrics."""

RECOVERED = 0.95
"""Share of the accuracy at the border that counts as won back."""


def minimum_accuracy(curves: Sequence[Curve], borders: Sequence[int]) -> float:
    """min-ACC: mean over old experiences of the lowest accuracy since they were learned.

    Raises: UndefinedMetric for a single experience or a curve without points.
    """
    _check(curves, borders)
    lowest = []
    for curve, learned in list(zip(curves, borders))[:-1]:
        lowest.append(min(accuracy for at, accuracy in curve if at > learned))
    return fmean(lowest)


def worst_case_accuracy(curves: Sequence[Curve], borders: Sequence[int]) -> float:
    """WC-ACC: ``A_N / N + (1 - 1/N) min-ACC``, ``A_N`` the last experience's accuracy.

    Raises: UndefinedMetric as ``minimum_accuracy``.
    """
    lowest = minimum_accuracy(curves, borders)
    n = len(curves)
    return curves[-1][-1][1] / n + (1 - 1 / n) * lowest


def stability_gap(curves: Sequence[Curve], borders: Sequence[int]) -> float:
    """Depth of the dips that evaluations at the borders do not see.

    While a later experience is trained, the accuracy on an earlier one goes from the
    border's value to that of the next border; the depth is how far below the LOWER of
    the two it went. Mean over all pairs of an earlier and a later experience.

    Raises: UndefinedMetric as ``minimum_accuracy``.
    """
    _check(curves, borders)
    passages = _passages(curves, borders)
    return fmean(min(p[0][1], p[-1][1]) - min(a for _, a in p) for p in passages)


def recovery_iterations(curves: Sequence[Curve], borders: Sequence[int]) -> float:
    """Iterations from a border until 95 % of the accuracy at it is back.

    Mean over the pairs of an earlier and a later experience in which accuracy fell below
    that and came back while the later one was trained; what never came back is in
    ``recovered_share``.

    Raises: UndefinedMetric if nothing came back, and as ``minimum_accuracy``.
    """
    fallen = _recoveries(curves, borders)
    back = [iterations for iterations in fallen if iterations is not None]
    if not back:
        raise UndefinedMetric(
            f"none of {len(fallen)} falls below 95 % of a border's accuracy was won back"
        )
    return fmean(back)


def recovered_share(curves: Sequence[Curve], borders: Sequence[int]) -> float:
    """Share of the falls below 95 % of a border's accuracy that were won back by the
    next border.

    Raises: UndefinedMetric if nothing fell, and as ``minimum_accuracy``.
    """
    fallen = _recoveries(curves, borders)
    return sum(iterations is not None for iterations in fallen) / len(fallen)


def windowed_forgetting(curves: Sequence[Curve], borders: Sequence[int]) -> float:
    """Largest fall of accuracy within 100 iterations, mean over experiences.

    Raises: UndefinedMetric as ``minimum_accuracy``.
    """
    _check(curves, borders)
    upside_down = [[(at, -accuracy) for at, accuracy in curve] for curve in curves]
    return fmean(_largest_rise(curve) for curve in upside_down)


def windowed_plasticity(curves: Sequence[Curve], borders: Sequence[int]) -> float:
    """Largest rise of accuracy within 100 iterations, mean over experiences.

    Raises: UndefinedMetric as ``minimum_accuracy``.
    """
    _check(curves, borders)
    return fmean(map(_largest_rise, curves))


CONTINUAL_METRICS: dict[str, Callable[[Sequence[Curve], Sequence[int]], float]] = {
    "minimum_accuracy": minimum_accuracy,
    "worst_case_accuracy": worst_case_accuracy,
    "stability_gap": stability_gap,
    "recovery_iterations": recovery_iterations,
    "recovered_share": recovered_share,
    "windowed_forgetting": windowed_forgetting,
    "windowed_plasticity": windowed_plasticity,
}


def summarise_curves(
    curves: Sequence[Curve], borders: Sequence[int], trains_jointly: bool = False
) -> dict[str, Any]:
    """Every metric of the curves, see ``evaluate_metrics``."""
    metrics: Mapping[str, Callable[..., float]] = CONTINUAL_METRICS
    if trains_jointly:
        metrics = dict.fromkeys(metrics, _refuse_joint)
    return evaluate_metrics(metrics, curves, borders)


def _refuse_joint(curves: Sequence[Curve], borders: Sequence[int]) -> float:
    raise UndefinedMetric("the run was trained on all experiences at once")


def _check(curves: Sequence[Curve], borders: Sequence[int]) -> None:
    if not curves:
        raise UndefinedMetric("no forgetting curve was measured (evaluation.samples=0)")
    if len(curves) == 1:
        raise UndefinedMetric(
            "there is a single experience: nothing is older, nothing newer than it"
        )
    if len(borders) != len(curves):
        raise UndefinedMetric(
            f"{len(borders)} of {len(curves)} experiences were trained to their end"
        )
    for k, curve in enumerate(curves):
        missing = set(borders[k:]) - {at for at, _ in curve}
        if missing:
            raise UndefinedMetric(
                f"experience {k} was not measured at the border {min(missing)}"
            )


def _passages(curves: Sequence[Curve], borders: Sequence[int]) -> Iterator[Curve]:
    """Each earlier experience's points from one border to the next, both included."""
    for k in range(1, len(borders)):
        for curve in curves[:k]:
            yield [p for p in curve if borders[k - 1] <= p[0] <= borders[k]]


def _recoveries(curves: Sequence[Curve], borders: Sequence[int]) -> list[int | None]:
    """Of each fall, the iterations until what was lost is back; None if it never is."""
    _check(curves, borders)
    found: list[int | None] = []
    for passage in _passages(curves, borders):
        start, at_border = passage[0]
        enough = [accuracy >= RECOVERED * at_border for _, accuracy in passage]
        if not all(enough):
            last_below = len(enough) - 1 - enough[::-1].index(False)
            back = last_below + 1
            found.append(passage[back][0] - start if back < len(passage) else None)
    if not found:
        raise UndefinedMetric("no accuracy fell below 95 % of its value at a border")
    return found


def _largest_rise(curve: Curve) -> float:
    """Between two points at most ``WINDOW`` iterations apart; at least 0."""
    largest = 0.0
    lowest: deque[tuple[int, float]] = deque()  # candidates, ascending
    for at, accuracy in curve:
        while lowest and lowest[0][0] < at - WINDOW:
            lowest.popleft()
        while lowest and lowest[-1][1] >= accuracy:
            lowest.pop()
        lowest.append((at, accuracy))
        largest = max(largest, accuracy - lowest[0][1])
    return largest
