"""Metrics of continual evaluation: what accuracy does between two boundaries."""

# Boundary k is the iteration at which training on experience k ended. A curve measured on
# s samples has a standard error of up to 0.5 / sqrt(s) per point; the lowest of many such
# points lies below the lowest accuracy by about two of them.
# Source: De Lange, van de Ven, Tuytelaars 2023, arXiv:2205.13452, section 3 (min-ACC,
# WC-ACC, windowed forgetting and plasticity); the other numbers are ours.

from bisect import bisect_left
from collections.abc import Sequence
from operator import sub
from statistics import fmean
from typing import Any

from kancl.metrics import score_matrix
from kancl.metrics.score_matrix import UndefinedMetric

Curve = Sequence[tuple[int, float]]
"""Iterations, ascending, and the accuracy on one experience at them."""

WINDOW = 100  # iterations of the windowed metrics
RECOVERED = 0.95  # share of the accuracy at the boundary that counts as won back


def minimum_accuracy(curves: Sequence[Curve], boundaries: Sequence[int]) -> float:
    """min-ACC: mean over old experiences of the lowest accuracy since they were learned."""
    _check(curves, boundaries)
    learned = zip(curves[:-1], boundaries)
    return fmean(min(a for at, a in curve if at > end) for curve, end in learned)


def worst_case_accuracy(curves: Sequence[Curve], boundaries: Sequence[int]) -> float:
    """WC-ACC: ``A_N / N + (1 - 1/N) min-ACC``, ``A_N`` the last experience's accuracy."""
    lowest = minimum_accuracy(curves, boundaries)
    n = len(curves)
    return curves[-1][-1][1] / n + (1 - 1 / n) * lowest


def stability_gap(curves: Sequence[Curve], boundaries: Sequence[int]) -> float:
    """Depth of the dips that evaluations at the boundaries do not see.

    How far below the LOWER of a boundary's and the next one's accuracy it went between
    them; mean over all pairs of an earlier and a later experience.
    """
    passages = _passages(curves, boundaries)
    return fmean(min(p[0][1], p[-1][1]) - min(a for _, a in p) for p in passages)


def recovery_iterations(curves: Sequence[Curve], boundaries: Sequence[int]) -> float:
    """Iterations from a boundary until 95 % of the accuracy at it is back.

    Mean over the falls that came back by the next boundary; undefined if none did.
    """
    recoveries = _recoveries(curves, boundaries)
    back = [iterations for iterations in recoveries if iterations is not None]
    if not back:
        raise UndefinedMetric(
            f"none of {len(recoveries)} falls below 95 % of a boundary's accuracy was won "
            "back"
        )
    return fmean(back)


def recovered_share(curves: Sequence[Curve], boundaries: Sequence[int]) -> float:
    """Share of the falls below 95 % of a boundary's accuracy that were won back by the
    next boundary. Undefined if nothing fell.
    """
    recoveries = _recoveries(curves, boundaries)
    return sum(iterations is not None for iterations in recoveries) / len(recoveries)


def windowed_forgetting(curves: Sequence[Curve], boundaries: Sequence[int]) -> float:
    """Largest fall of accuracy within 100 iterations, mean over experiences."""
    upside_down = [[(at, -accuracy) for at, accuracy in curve] for curve in curves]
    return windowed_plasticity(upside_down, boundaries)


def windowed_plasticity(curves: Sequence[Curve], boundaries: Sequence[int]) -> float:
    """Largest rise of accuracy within 100 iterations, mean over experiences."""
    _check(curves, boundaries)
    return fmean(map(_largest_rise, curves))


CONTINUAL_METRICS = score_matrix.by_name(
    *(minimum_accuracy, worst_case_accuracy, stability_gap, recovery_iterations),
    *(recovered_share, windowed_forgetting, windowed_plasticity),
)


def summarise_curves(
    curves: Sequence[Curve], boundaries: Sequence[int], trains_jointly: bool = False
) -> dict[str, Any]:
    """Every metric of the curves, see ``evaluate_metrics``."""
    if not trains_jointly:
        return score_matrix.evaluate_metrics(CONTINUAL_METRICS, curves, boundaries)
    reason = "the run was trained on all experiences at once"
    undefined = dict.fromkeys(CONTINUAL_METRICS, reason)
    return {**dict.fromkeys(undefined), "undefined": undefined}


def _check(curves: Sequence[Curve], boundaries: Sequence[int]) -> None:
    if not curves:
        raise UndefinedMetric("no forgetting curve was measured (evaluation.samples=0)")
    score_matrix.need_several(len(curves))
    if len(boundaries) != len(curves):
        raise UndefinedMetric(
            f"{len(boundaries)} of {len(curves)} experiences were trained to their end"
        )
    for k, curve in enumerate(curves):
        if missing := set(boundaries[k:]) - {at for at, _ in curve}:
            raise UndefinedMetric(
                f"experience {k + 1} was not measured at the boundary {min(missing)}"
            )


def _passages(curves: Sequence[Curve], boundaries: Sequence[int]) -> list[Curve]:
    """Each earlier experience's points from one boundary to the next, both included."""
    _check(curves, boundaries)
    return [
        [p for p in curve if boundaries[k - 1] <= p[0] <= boundaries[k]]
        for k in range(1, len(boundaries))
        for curve in curves[:k]
    ]


def _recoveries(curves: Sequence[Curve], boundaries: Sequence[int]) -> list[int | None]:
    """For each fall, the iterations until what was lost is back; None if it never is."""
    recoveries: list[int | None] = []
    for passage in _passages(curves, boundaries):
        start, at_boundary = passage[0]
        below = [i for i, (_, a) in enumerate(passage) if a < RECOVERED * at_boundary]
        if below:
            after = passage[below[-1] + 1 :]
            recoveries.append(after[0][0] - start if after else None)
    if not recoveries:
        raise UndefinedMetric("no accuracy fell below 95 % of its value at a boundary")
    return recoveries


def _largest_rise(curve: Curve) -> float:
    """Between two points at most ``WINDOW`` iterations apart; at least 0."""
    at, accuracy = zip(*curve)
    starts = [bisect_left(at, iteration - WINDOW) for iteration in at]
    lowest = (min(accuracy[start : k + 1]) for k, start in enumerate(starts))
    return max(map(sub, accuracy, lowest))
