"""Read a published protocol, and judge our numbers by the paper's: both ways.

A row passes if ``|ours - paper| <= 2 sqrt(SEM_paper^2 + SEM_ours^2) + 0.3`` points, SEM
the standard error of the mean over seeds. A number that is too good fails as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from statistics import fmean, stdev
from typing import Any, Literal

from omegaconf import OmegaConf

from kancl.config import ConfigError, nearest

SLACK = 0.3
"""Points that rounding and libraries may cost."""

SEEDS_WANTED = 10


@dataclass(frozen=True)
class Row:
    """One published number.

    Args:
        name: of the method in the paper, lower case.
        incremental: None for a scenario that is not incremental.
        paper: final average accuracy in percent; None if the source gives none.
        sem: its standard error; None if the paper gives none.
        gate: whether it decides; the others are only shown.
        settings: overrides of ``kancl run``.
    """

    name: str
    incremental: str | None
    paper: float | None
    sem: float | None
    gate: bool
    settings: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What it can be asked for by."""
        if self.incremental is None:
            return (self.name,)
        return self.name, f"{self.name}/{self.incremental}"


@dataclass(frozen=True)
class Protocol:
    """What a paper ran, and what it got.

    Args:
        n_seeds: of the paper.
        settings: overrides of ``kancl run`` that all rows share.
    """

    name: str
    source: str
    n_seeds: int
    settings: tuple[str, ...]
    rows: tuple[Row, ...]

    def chosen(self, names: Sequence[str]) -> list[Row]:
        """The rows of these methods (``lwf``, or ``lwf/task`` for one of them); all, if
        none is named.

        Raises: ConfigError for a name that no row has.
        """
        known = dict.fromkeys(name for row in self.rows for name in row.names)
        for name in names:
            if name not in known:
                raise ConfigError(
                    f"{self.name} has no row {name}; {nearest(name, known)}"
                )
        return [row for row in self.rows if not names or {*row.names} & {*names}]


@dataclass(frozen=True)
class Judgement:
    """A row beside ours, in percent.

    Args:
        n_seeds: runs that completed.
        n_lost: runs that did not.
        tolerance: None where there is no error: of a single seed, and none published.
        verdict: ``shown`` where the row is no gate or nothing can be decided.
    """

    row: Row
    n_seeds: int
    n_lost: int
    ours: float | None
    sem: float | None
    tolerance: float | None
    verdict: Literal["PASS", "FAIL", "shown"]

    @property
    def difference(self) -> float | None:
        if self.ours is None or self.row.paper is None:
            return None
        return self.ours - self.row.paper

    @property
    def cells(self) -> tuple[str, ...]:
        seeds = f"{self.n_seeds}" + (f" ({self.n_lost} lost)" if self.n_lost else "")
        return (
            self.row.name,
            self.row.incremental or "-",
            "" if self.row.paper is None else _number(self.row.paper, self.row.sem),
            _number(self.ours, self.sem),
            "" if self.difference is None else f"{self.difference:+.2f}",
            "" if self.tolerance is None else f"{self.tolerance:.2f}",
            seeds,
            self.verdict,
        )


HEAD = (
    "row",
    "incremental",
    "paper %",
    "ours %",
    "difference",
    "tolerance",
    "seeds",
    "verdict",
)


def judge(
    row: Row,
    accuracies: Sequence[float],
    n_lost: int = 0,
    paper_seeds: int | None = None,
) -> Judgement:
    """Judge final average accuracies (fractions, one per seed) by a row.

    An error that the paper does not give counts as 0. A single seed shows no spread:
    the paper's, ``SEM_paper sqrt(paper_seeds)``, stands in. A gate whose runs did not
    all complete fails: what is left may be the lucky.

    Args:
        paper_seeds: how many the paper's error rests on; without it, nothing is decided
            of a single seed.
    """
    percent = [100 * accuracy for accuracy in accuracies]
    n = len(percent)
    ours = fmean(percent) if n else None
    sem = stdev(percent) / math.sqrt(n) if n > 1 else None
    error, tolerance = sem, None
    if n == 1 and row.sem is not None and paper_seeds is not None:
        error = row.sem * math.sqrt(paper_seeds)
    verdict: Literal["PASS", "FAIL", "shown"] = "shown"
    if error is not None:
        tolerance = 2 * math.hypot(row.sem or 0.0, error) + SLACK
    if row.gate and n_lost:
        verdict = "FAIL"
    elif row.gate and row.paper and ours is not None and tolerance is not None:
        verdict = "PASS" if abs(ours - row.paper) <= tolerance else "FAIL"
    return Judgement(row, n, n_lost, ours, sem, tolerance, verdict)


def judgements_markdown(
    protocol: Protocol, judgements: Sequence[Judgement], altered: Sequence[str] = ()
) -> str:
    """A section of RESULTS.md, with what a reader has to know below it."""
    title = f"{protocol.name}, altered" if altered else protocol.name
    lines = [f"## {title}", "", protocol.source, ""]
    rows: list[tuple[str, ...]] = [HEAD, ("---",) * 2 + ("---:",) * 5 + ("---",)]
    rows += [judgement.cells for judgement in judgements]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    rule = f"2 sqrt(SEM_paper^2 + SEM_ours^2) + {SLACK} points, both ways"
    lines += ["", f"- ± is the standard error of the mean; tolerance: {rule}."]
    fewest = min((j.n_seeds for j in judgements), default=0)
    if fewest < SEEDS_WANTED:
        lines.append(f"- Fewer seeds than {SEEDS_WANTED}: {fewest} at least.")
    if any(j.n_seeds == 1 and j.tolerance is not None for j in judgements):
        spread = f"SEM_paper sqrt({protocol.n_seeds})"
        lines.append(f"- One seed has no spread: the paper's, {spread}, stands in.")
    if altered:
        changed = ", ".join(f"`{text}`" for text in altered)
        lines.append(f"- NOT the protocol, so no verdict: {changed}.")
    return "\n".join(lines) + "\n"


def protocol_names() -> list[str]:
    """The protocols there are."""
    files = resources.files("kancl.protocols").iterdir()
    names = [file.name for file in files if file.name.endswith(".yaml")]
    return sorted(name.removesuffix(".yaml") for name in names)


def read_content(name: str) -> dict[str, Any]:
    """What a protocol's file holds.

    Raises: ConfigError with the nearest name if there is no such protocol.
    """
    if name not in protocol_names():
        raise ConfigError(
            f"there is no protocol {name}; {nearest(name, protocol_names())}"
        )
    file = resources.files("kancl.protocols") / f"{name}.yaml"
    content = OmegaConf.to_container(OmegaConf.create(file.read_text()))
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def read_protocol(name: str) -> Protocol:
    """Raises: ConfigError with the nearest name if there is no such protocol."""
    content = read_content(name)
    return Protocol(
        name,
        " ".join(str(content["source"]).split()),
        int(content["seeds"]),
        tuple(content["settings"]),
        tuple(_row(row) for row in content["rows"]),
    )


def _row(given: dict[str, Any]) -> Row:
    return Row(
        given["row"],
        given["incremental"],
        None if given["paper"] is None else float(given["paper"]),
        None if given["sem"] is None else float(given["sem"]),
        bool(given["gate"]),
        tuple(given["settings"]),
    )


def _number(value: float | None, sem: float | None) -> str:
    if value is None:
        return "none completed"
    return f"{value:.2f}" if sem is None else f"{value:.2f} ± {sem:.2f}"
