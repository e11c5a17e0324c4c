"""The difference of two models, paired over seeds, and how sure it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any, TypeVar

from kancl.metrics import statistics

T = TypeVar("T")


def _statistic(function: Callable[[Sequence[float]], T]) -> cached_property[T]:
    """A function of the differences, computed when it is asked for."""
    return cached_property(lambda difference: function(difference.values))


@dataclass(frozen=True)
class Difference:
    """Paired differences and their statistics, see ``kancl.metrics.statistics``.

    Args:
        values: one per seed that both have, in the order of ``seeds``.
    """

    seeds: tuple[Any, ...]
    values: tuple[float, ...]

    n_pairs = _statistic(len)
    mean = _statistic(fmean)
    interval = _statistic(statistics.t_interval)
    bootstrap = _statistic(statistics.bootstrap_interval)
    p_t = _statistic(statistics.t_test)
    p_permutation = _statistic(statistics.permutation_test)
    p_wilcoxon = _statistic(statistics.wilcoxon_test)
    smallest_p = _statistic(lambda values: statistics.smallest_p(len(values)))
    cohens_dz = _statistic(statistics.cohens_dz)
    hedges_gz = _statistic(statistics.hedges_gz)

    @property
    def half_width(self) -> float | None:
        return None if self.interval is None else self.interval.half_width


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
