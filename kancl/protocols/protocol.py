"""Protocols: what is run, what each row has to come to, and the rule that decides."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Literal

from scipy import stats

from kancl.config import ConfigError, nearest
from kancl.config.files import read_mapping

FOLDER = Path(__file__).parent
ACCURACY = "average_accuracy"
TARGETS = ("row", "incremental", "paper %", "ours %", "difference", "tolerance")
BOUNDS = ("row", "what", "measure", "must be", "ours")
SLACK = 0.3
"""Points that rounding and libraries may cost."""


@dataclass(frozen=True, eq=False)
class Row:
    """One line of a protocol: a published mean, or a bound on the value of every seed.

    Args:
        name: of the method or network, lower case.
        settings: overrides of ``kancl run``.
        incremental: None for a scenario that is not incremental.
        measure: a key of ``summary.json``.
        gate: whether the row decides; the others are only shown.
        paper: published mean in percent; None if the source gives none.
        sem: its standard error; None if the paper gives none.
        says: what a bound is about.
        above, below: what the value of every seed must be.
        falls: other rows, whose values must fall from each to the next; such a row runs
            nothing itself.
    """

    name: str
    settings: Sequence[str] = ()
    incremental: str | None = None
    measure: str = ACCURACY
    gate: bool = True
    paper: float | None = None
    sem: float | None = None
    says: str = ""
    above: float | None = None
    below: float | None = None
    falls: Sequence[str] = ()

    @property
    def names(self) -> list[str]:
        """What the row can be asked for by."""
        longer = f"{self.name}/{self.incremental}"
        return [self.name, longer] if self.incremental else [self.name]

    @property
    def demand(self) -> str:
        """The bound in words."""
        if self.falls:
            return f"falls: {', '.join(self.falls)}"
        if self.above is not None:
            return f"> {self.above:g}"
        return "" if self.below is None else f"< {self.below:g}"


@dataclass(frozen=True)
class Protocol:
    """What is run, and what has to come out.

    Args:
        n_seeds: to run.
        settings: overrides of ``kancl run`` that all rows share.
        paper_seeds: how many the paper ran.
    """

    name: str
    source: str
    n_seeds: int
    settings: Sequence[str]
    rows: Sequence[Row]
    paper_seeds: int | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Titles of its table: published accuracies, or bounds on another measure."""
        accuracies = all(row.measure == ACCURACY for row in self.rows)
        return (TARGETS if accuracies else BOUNDS) + ("seeds", "verdict")

    def chosen(self, names: Sequence[str]) -> list[Row]:
        """The rows of these names (``lwf``, ``lwf/task``; none: all) with those they compare.

        Raises: ConfigError for a name that no row has.
        """
        known = [name for row in self.rows for name in row.names]
        for name in [name for name in names if name not in known]:
            raise ConfigError(f"{self.name} has no row {name}; {nearest(name, known)}")
        asked = set(names)
        for row in self.rows:
            if asked & {*row.names}:
                asked |= {*row.falls}
        return [row for row in self.rows if not names or asked & {*row.names}]


def protocol_names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_protocol(name: str) -> Protocol:
    """Raises: ConfigError with the nearest name if there is no such protocol."""
    if name not in (known := protocol_names()):
        raise ConfigError(f"there is no protocol {name}; {nearest(name, known)}")
    content = read_mapping(FOLDER / f"{name}.yaml")
    measure = {"measure": content.get("measure", ACCURACY)}
    rows = [Row(row.pop("row"), **measure | row) for row in content["rows"]]
    source = " ".join(content["source"].split())
    n_seeds = content["seeds"]
    published = content.get("paper_seeds", n_seeds)
    return Protocol(name, source, n_seeds, content["settings"], rows, published)


@dataclass(frozen=True)
class Judgement:
    """A row with what its runs came to, and the rule that passes or fails it.

    A row with a published mean passes if ``|ours - paper| <= tolerance``: a number that
    is too good fails as well. A row with a bound passes if every seed keeps it. A run
    that was lost fails both: what is left may be the lucky.

    Args:
        measured: its measure in the runs that completed, accuracies as fractions.
        n_lost: runs that did not complete.
        paper_seeds: how many the paper ran; without its error, nothing is decided of a
            single seed of ours.
        altered: whether something else than the protocol was run.
    """

    row: Row
    measured: Sequence[float]
    n_lost: int = 0
    paper_seeds: int | None = None
    altered: bool = False

    @property
    def values(self) -> list[float]:
        """One per seed that completed; accuracies in percent."""
        unit = 100 if self.row.measure == ACCURACY else 1
        return [unit * value for value in self.measured]

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
        """``t sqrt(SEM_paper^2 + s^2 / n) + 0.3`` points, or None where no error is known.

        s is the spread of our n seeds, but at least the most that the paper's seeds allow
        theirs to be (95 % limit): two seeds that lie close together prove no small error.
        t is Student's 97.5 % quantile for the paper's seeds. Where the paper gives no
        error, its m seeds are taken to spread as ours do, ``SEM_paper = s / sqrt(m)``,
        and t is that of our seeds (the usual test of two means). Without m either, our
        error has to do.

        Source: of right programs, also with 1.36 times the spread of a paper of 20 seeds,
        at most 5 % fail in simulation, with 1 to 20 seeds; of programs that are 4 such
        spreads off, 3 in 4 fail with one seed and 9 in 10 with two.
        """
        n, sem = len(self.values), self.row.sem
        seeds = self.paper_seeds
        spread = stdev(self.values) if n > 1 else None
        if sem is not None and seeds is not None:
            limit = math.sqrt((seeds - 1) / stats.chi2.ppf(0.05, seeds - 1))
            spread = max(spread or 0.0, limit * sem * math.sqrt(seeds))
        if spread is None or n == 0:
            return None
        if sem is None:
            sem, degrees = spread / math.sqrt(seeds or math.inf), n - 1
        else:
            degrees = (seeds or n) - 1
        quantile = float(stats.t.ppf(0.975, degrees))
        return quantile * math.hypot(sem, spread / math.sqrt(n)) + SLACK

    @property
    def verdict(self) -> Literal["PASS", "FAIL", "shown"]:
        """``shown`` where the row is no gate or nothing can be decided."""
        row = self.row
        demands = row.falls or (row.paper, row.above, row.below) != (None, None, None)
        if self.altered or not row.gate or not demands:
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
        row, lost = self.row, f" ({self.n_lost} lost)" if self.n_lost else ""
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


def judge_fall(
    row: Row, judged: Mapping[str, Judgement], altered: bool = False
) -> Judgement:
    """Judge whether the values of other rows fall, seed by seed: the smallest step."""
    others = [judged[name] for name in row.falls]
    seeds = zip(*(other.measured for other in others))
    steps = [min(a - b for a, b in zip(v, v[1:])) for v in seeds]
    return Judgement(row, steps, sum(o.n_lost for o in others), altered=altered)


def _with_error(value: float | None, sem: float | None) -> str:
    if value is None:
        return "none completed"
    return f"{value:.2f}" if sem is None else f"{value:.2f} ± {sem:.2f}"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
