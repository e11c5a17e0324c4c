"""The difference of two models, paired over seeds, with its confidence interval."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any


@dataclass(frozen=True)
class Difference:
    """A mean of paired differences.

    Args:
        half_width: of the 95 % t-interval; None for a single pair, which has none.
    """

    mean: float
    half_width: float | None
    n_pairs: int


def paired_difference(
    a: Mapping[Any, float], b: Mapping[Any, float]
) -> Difference | None:
    """``a - b`` over the seeds (keys) that both have; None if they share none.

    Runs of the same seed saw the same class order, permutations and batches, so the
    interval is that of the differences, not of the two means.
    """
    differences = [a[seed] - b[seed] for seed in a if seed in b]
    n = len(differences)
    if n == 0:
        return None
    half = None if n == 1 else t_quantile(n - 1) * stdev(differences) / math.sqrt(n)
    return Difference(mean(differences), half, n)


def t_quantile(degrees: int) -> float:
    """The 97.5 % quantile of Student's t distribution, found by bisection."""
    if degrees < 1:
        raise ValueError(f"degrees of freedom must be at least 1, got {degrees}")
    low, high = 0.0, 13.0
    while high - low > 1e-10:
        middle = (low + high) / 2
        low, high = (low, middle) if _t_cdf(middle, degrees) > 0.975 else (middle, high)
    return low


def _t_cdf(t: float, degrees: int) -> float:
    """Student's distribution function for whole degrees of freedom.

    Source: Abramowitz & Stegun 1964, 26.7.3 and 26.7.4.
    """
    theta = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(theta), math.cos(theta)
    if degrees % 2:
        term, total = cosine, (cosine if degrees > 1 else 0.0)
        for k in range(3, degrees - 1, 2):
            term *= cosine**2 * (k - 1) / k
            total += term
        inside = 2 / math.pi * (theta + sine * total)
    else:
        term = total = 1.0
        for k in range(2, degrees - 1, 2):
            term *= cosine**2 * (k - 1) / k
            total += term
        inside = sine * total
    return 0.5 + inside / 2
