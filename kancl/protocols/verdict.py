"""The rule that passes or fails a row, and the section of RESULTS.md that says so.

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

from kancl.protocols.protocol import ACCURACY, Protocol, Row

SLACK = 0.3
"""Points that rounding and libraries may cost."""

SEEDS_WANTED = 10

NUMBERS = {"paper %", "ours %", "difference", "tolerance", "seeds"}
"""Titles of the columns that are set to the right."""

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


def judgements_markdown(
    protocol: Protocol, judgements: Sequence[Judgement], altered: Sequence[str] = ()
) -> str:
    """A section of RESULTS.md, with what a reader has to know below its table."""
    columns = protocol.columns
    rule = ["---:" if title in NUMBERS else "---" for title in columns]
    rows = [[j.cells[title] for title in columns] for j in judgements]
    title = f"{protocol.name}, altered" if altered else protocol.name
    lines = [f"## {title}", "", protocol.source, ""]
    lines += [f"| {' | '.join(row)} |" for row in [columns, rule, *rows]]
    lines += ["", *(f"- {note}." for note in _notes(protocol, judgements))]
    if altered:
        changed = ", ".join(f"`{text}`" for text in altered)
        lines.append(f"- NOT the protocol, so no verdict: {changed}.")
    return "\n".join(lines) + "\n"


def _notes(protocol: Protocol, judgements: Sequence[Judgement]) -> list[str]:
    if "tolerance" not in protocol.columns:
        return ["From the smallest to the largest of the seeds; the worst decides"]
    rule = f"2 sqrt(SEM_paper^2 + SEM_ours^2) + {SLACK} points, both ways"
    notes = [f"± is the standard error of the mean; tolerance: {rule}"]
    fewest = min((len(j.values) for j in judgements), default=0)
    if fewest < SEEDS_WANTED:
        notes.append(f"Fewer seeds than {SEEDS_WANTED}: {fewest} at least")
    if any(len(j.values) == 1 and j.tolerance is not None for j in judgements):
        spread = f"SEM_paper sqrt({protocol.n_seeds})"
        notes.append(f"One seed has no spread: the paper's, {spread}, stands in")
    return notes


def _with_error(value: float | None, sem: float | None) -> str:
    if value is None:
        return "none completed"
    return f"{value:.2f}" if sem is None else f"{value:.2f} ± {sem:.2f}"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
