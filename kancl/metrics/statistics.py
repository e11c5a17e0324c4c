"""Statistics of a few seeds: intervals, paired tests, Holm's correction, effect sizes."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, mean, stdev
from typing import Any, NamedTuple, TypeVar

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
ALPHA = 1 - CONFIDENCE
EXACT_UP_TO = 20  # pairs: all 2^n signs are counted, a million
N_RESAMPLES = 9999

T = TypeVar("T")


class Interval(NamedTuple):
    """A confidence interval of 95 %."""

    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2

    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def t_quantile(degrees: int) -> float:
    """The 97.5 % quantile of Student's t distribution."""
    if degrees < 1:
        raise ValueError(f"degrees of freedom must be at least 1, got {degrees}")
    return float(stats.t.ppf(1 - ALPHA / 2, degrees))


def t_interval(values: Sequence[float]) -> Interval | None:
    """The mean's interval ``m ± t s / sqrt(n)``; None for a single value."""
    n = _count(values)
    if n == 1:
        return None
    half = t_quantile(n - 1) * stdev(values) / math.sqrt(n)
    return Interval(mean(values) - half, mean(values) + half)


def bootstrap_interval(values: Sequence[float], seed: int = 0) -> Interval | None:
    """The mean's bias-corrected and accelerated interval; None for a single value.

    With fewer than about ten values it is too narrow: it knows no spread beyond theirs.

    Source: Efron 1987, "Better bootstrap confidence intervals"; SciPy's.
    """
    if _count(values) == 1:
        return None
    if _spread(values) == 0:  # BCa divides by it
        return Interval(values[0], values[0])
    low, high = stats.bootstrap(
        (np.asarray(values, dtype=float),),
        np.mean,
        n_resamples=N_RESAMPLES,
        confidence_level=CONFIDENCE,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(low), float(high))


def t_test(differences: Sequence[float]) -> float | None:
    """Two-sided p of Student's paired test; None without spread (or for one pair)."""
    if _spread(differences) == 0:
        return None
    return float(stats.ttest_1samp(differences, 0).pvalue)


def permutation_test(differences: Sequence[float], seed: int = 0) -> float:
    """Two-sided p of the paired permutation test, exact up to 20 pairs.

    The share of all ``2^n`` signs whose mean is at least as far from 0 as the observed;
    beyond, of 99,999 random ones and it. (SciPy's takes 100 times as long for 20 pairs.)
    """
    n = _count(differences)
    d = np.asarray(differences, dtype=float)
    observed = abs(d.sum()) * (1 - 1e-12)  # sums in another order differ by rounding
    if n <= EXACT_UP_TO:
        sums = np.zeros(1)
        for difference in d:
            sums = np.concatenate([sums + difference, sums - difference])  # (2^k,)
        return float((np.abs(sums) >= observed).mean())
    rng = np.random.default_rng(seed)
    signs = rng.integers(0, 2, size=(10 * N_RESAMPLES, n)) * 2 - 1
    count = int((np.abs(signs @ d) >= observed).sum())
    return (count + 1) / (10 * N_RESAMPLES + 1)


def wilcoxon_test(differences: Sequence[float]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test, ties and all: the permutation test of
    signed ranks. Pairs that do not differ are left out.

    Source: Wilcoxon 1945; Pratt & Gibbons 1981 (ties).
    """
    _count(differences)
    d = np.asarray([x for x in differences if x != 0], dtype=float)
    ranks = np.sign(d) * stats.rankdata(np.abs(d))
    return permutation_test(ranks.tolist()) if len(d) else 1.0


def smallest_p(n_pairs: int) -> float:
    """The smallest p that exact paired tests can reach: ``2 / 2^n``."""
    if n_pairs < 1:
        raise ValueError(f"n_pairs must be at least 1, got {n_pairs}")
    return 2.0 ** (1 - n_pairs)


def pairs_needed(alpha: float = ALPHA) -> int:
    """Pairs from which an exact paired test can reach ``p < alpha``: 6 for 0.05."""
    return next(n for n in range(1, 1000) if smallest_p(n) < alpha)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values, corrected for being so many; their order is kept.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    for p in p_values:
        if not 0 <= p <= 1:
            raise ValueError(f"p-values lie between 0 and 1, got {p}")
    m = len(p_values)
    corrected, order = np.empty(m), np.argsort(p_values, kind="stable")
    scaled = np.arange(m, 0, -1) * np.asarray(p_values)[order]
    corrected[order] = np.maximum.accumulate(np.minimum(1.0, scaled))
    return corrected.tolist()


def cohens_dz(differences: Sequence[float]) -> float | None:
    """Paired effect size: mean over standard deviation; None where there is none.

    Source: Cohen 1988, section 2.3.5; Lakens 2013, equation 6.
    """
    spread = _spread(differences)
    return mean(differences) / spread if spread else None


def hedges_gz(differences: Sequence[float]) -> float | None:
    """Cohen's d_z without its upward bias in small samples.

    ``J(m) = gamma(m/2) / (sqrt(m/2) gamma((m-1)/2))`` with ``m = n - 1``.

    Source: Hedges 1981, equation 6e.
    """
    d_z, m = cohens_dz(differences), len(differences) - 1
    if d_z is None or m < 2:  # J(1) = 0: of two pairs, nothing can be said
        return None
    log_j = math.lgamma(m / 2) - math.lgamma((m - 1) / 2) - math.log(m / 2) / 2
    return math.exp(log_j) * d_z


def _statistic(function: Callable[[Sequence[float]], T]) -> cached_property[T]:
    return cached_property(lambda difference: function(difference.values))


@dataclass(frozen=True)
class Difference:
    """Paired differences, one per seed, and their statistics, computed when asked for."""

    seeds: tuple[Any, ...]
    values: tuple[float, ...]

    n_pairs = _statistic(len)
    mean = _statistic(fmean)
    interval = _statistic(t_interval)
    bootstrap = _statistic(bootstrap_interval)
    p_t = _statistic(t_test)
    p_permutation = _statistic(permutation_test)
    p_wilcoxon = _statistic(wilcoxon_test)
    cohens_dz = _statistic(cohens_dz)
    hedges_gz = _statistic(hedges_gz)
    smallest_p = _statistic(lambda values: smallest_p(len(values)))

    @property
    def half_width(self) -> float | None:
        return None if self.interval is None else self.interval.half_width


def paired_difference(
    a: Mapping[Any, float], b: Mapping[Any, float]
) -> Difference | None:
    """``a - b`` over the seeds (keys) that both have; None if they share none.

    Such runs saw the same class order, permutations and batches, so the interval is that
    of the differences, not of the two means.
    """
    seeds = tuple(seed for seed in a if seed in b)
    return Difference(seeds, tuple(a[s] - b[s] for s in seeds)) if seeds else None


def _count(values: Sequence[float]) -> int:
    if not len(values):
        raise ValueError("a statistic needs at least one value, got none")
    for value in values:
        if not math.isfinite(value):
            raise ValueError(f"a statistic needs finite values, got {value}")
    return len(values)


def _spread(values: Sequence[float]) -> float:
    """The standard deviation, 0 for a single value and where it is rounding alone."""
    if _count(values) == 1:
        return 0.0
    spread = stdev(values)
    return 0.0 if spread <= 1e-12 * max(map(abs, values)) else spread
