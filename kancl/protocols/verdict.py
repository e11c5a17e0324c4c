"""The one rule that passes or fails a row.

A row with a published mean passes if ``|ours - paper| <= 2 sqrt(SEM_paper^2 + SEM_ours^2)
+ 0.3`` points, SEM the standard error of the mean over seeds: a number that is too good
fails as well. A row with a bound passes if every seed keeps it. A run that was lost fails
both: what is left may be the lucky.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from kancl.protocols.protocol import ACCURACY, Row

SLACK = 0.3
"""Points that rounding and libraries may cost."""

Verdict = Literal["PASS", "FAIL", "shown"]


@dataclass(frozen=True)
class Judgement:
    """A row with the values of its runs.

    Args:
        values: one per seed that completed; accuracies in percent.
        n_lost: runs that did not complete.
        paper_seeds: how many the paper's error rests on; without it, nothing is decided
            of a single seed.
        altered: whether something else than the protocol was run.
    """

    row: Row
    values: tuple[float, ...]
    n_lost: int = 0
    paper_seeds: int | None = None
    altered: bool = False

    @property
    def mean(self) -> float | None:
        return fmean(self.values) if self.values else None

    @property
    def sem(self) -> float | None:
        n = len(self.values)
        return stdev(self.values) / math.sqrt(n) if n > 1 else None

    @property
    def difference(self) -> float | None:
        if self.mean is None or self.row.paper is None:
            return None
        return self.mean - self.row.paper

    @property
    def tolerance(self) -> float | None:
        """None where there is no error.

        An error that the paper does not give counts as 0. A single seed shows no spread:
        the paper's, ``SEM_paper sqrt(paper_seeds)``, stands in.
        """
        error, published = self.sem, self.row.sem
        if len(self.values) == 1 and published is not None and self.paper_seeds:
            error = published * math.sqrt(self.paper_seeds)
        return None if error is None else 2 * math.hypot(published or 0, error) + SLACK

    @property
    def verdict(self) -> Verdict:
        """``shown`` where the row is no gate or nothing can be decided."""
        row = self.row
        if self.altered or not row.decides:
            return "shown"
        if self.n_lost or not self.values:
            return "FAIL"
        if self.difference is None:
            low = 0.0 if row.falls else -math.inf if row.above is None else row.above
            high = math.inf if row.below is None else row.below
            passed = all(low < value < high for value in self.values)
        elif self.tolerance is None:
            return "shown"
        else:
            passed = abs(self.difference) <= self.tolerance
        return "PASS" if passed else "FAIL"

    @property
    def cells(self) -> dict[str, str]:
        """What the table says under each title."""
        row = self.row
        lost = f" ({self.n_lost} lost)" if self.n_lost else ""
        ends = dict.fromkeys(f"{f(self.values):.2g}" for f in (min, max) if self.values)
        return {
            "row": row.name,
            "incremental": row.incremental or "-",
            "paper %": "" if row.paper is None else _with_error(row.paper, row.sem),
            "ours %": _with_error(self.mean, self.sem),
            "difference": _number(self.difference, "+.2f"),
            "tolerance": _number(self.tolerance, ".2f"),
            "what": row.says,
            "measure": "" if row.falls else row.measure,
            "must be": row.demand,
            "ours": "" if row.falls else " to ".join(ends) or "none completed",
            "seeds": "" if row.falls else f"{len(self.values)}{lost}",
            "verdict": self.verdict,
        }


def judge(
    row: Row,
    measured: Sequence[float],
    n_lost: int = 0,
    paper_seeds: int | None = None,
    altered: bool = False,
) -> Judgement:
    """Judge a row by its measure in the runs that completed, accuracies as fractions."""
    unit = 100 if row.measure == ACCURACY else 1
    values = tuple(unit * value for value in measured)
    return Judgement(row, values, n_lost, paper_seeds, altered)


def judge_fall(
    row: Row, judged: Mapping[str, Judgement], altered: bool = False
) -> Judgement:
    """Judge whether the values of other rows fall, seed by seed: the smallest step."""
    others = [judged[name] for name in row.falls]
    n_lost = sum(other.n_lost for other in others)
    seeds = zip(*(other.values for other in others))
    steps = tuple(min(a - b for a, b in zip(v, v[1:])) for v in seeds)
    return Judgement(row, steps, n_lost, altered=altered)


def _with_error(value: float | None, sem: float | None) -> str:
    if value is None:
        return "none completed"
    return f"{value:.2f}" if sem is None else f"{value:.2f} ± {sem:.2f}"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
