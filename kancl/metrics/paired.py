"""The difference of two models, paired over seeds, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from kancl.metrics import statistics
from kancl.metrics.statistics import Interval


@dataclass(frozen=True)
class Difference:
    """Paired differences; what is said of them is computed when asked for.

    Args:
        values: one per seed that both have, in the order of ``seeds``.
    """

    seeds: tuple[Any, ...]
    values: tuple[float, ...]

    @property
    def n_pairs(self) -> int:
        return len(self.values)

    @cached_property
    def mean(self) -> float:
        return fmean(self.values)

    @cached_property
    def interval(self) -> Interval | None:
        """95 %, by Student's t; None for a single pair, which has none."""
        return statistics.t_interval(self.values)

    @property
    def half_width(self) -> float | None:
        return None if self.interval is None else self.interval.half_width

    @cached_property
    def bootstrap(self) -> Interval | None:
        """95 %, bias-corrected and accelerated bootstrap; None for a single pair."""
        return statistics.bootstrap_interval(self.values)

    @cached_property
    def p_t(self) -> float | None:
        """Of Student's paired test; None where the differences have no spread."""
        return statistics.t_test(self.values)

    @cached_property
    def p_permutation(self) -> float:
        """Of the exact paired permutation test."""
        return statistics.permutation_test(self.values)

    @cached_property
    def p_wilcoxon(self) -> float:
        """Of the exact signed-rank test."""
        return statistics.wilcoxon_test(self.values)

    @property
    def smallest_p(self) -> float:
        """That an exact paired test of so many pairs can reach."""
        return statistics.smallest_p(self.n_pairs)

    @property
    def cohens_dz(self) -> float | None:
        return statistics.cohens_dz(self.values)

    @property
    def hedges_gz(self) -> float | None:
        return statistics.hedges_gz(self.values)


def paired_difference(
    a: Mapping[Any, float], b: Mapping[Any, float]
) -> Difference | None:
    """``a - b`` over the seeds (keys) that both have; None if they share none.

    Runs of the same seed saw the same class order, permutations and batches, so the
    interval is that of the differences, not of the two means.
    """
    seeds = tuple(seed for seed in a if seed in b)
    if not seeds:
        return None
    return Difference(seeds, tuple(a[seed] - b[seed] for seed in seeds))
