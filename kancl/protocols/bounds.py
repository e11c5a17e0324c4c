"""Protocols that bound a metric instead of repeating a published number.

Every seed has to keep within the bound: the worst decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kancl.config import ConfigError, nearest
from kancl.protocols.protocol import read_content

Verdict = Literal["PASS", "FAIL", "shown"]


@dataclass(frozen=True)
class Bound:
    """One row.

    Args:
        says: what it is about.
        measure: a key of ``summary.json``.
        above, below: what every seed's value must be; a row with neither is shown.
        falls: other rows, whose values must fall from each to the next; such a row runs
            nothing itself.
        settings: overrides of ``kancl run``.
    """

    name: str
    says: str
    measure: str
    above: float | None
    below: float | None
    falls: tuple[str, ...]
    settings: tuple[str, ...]

    @property
    def demand(self) -> str:
        if self.falls:
            return f"falls: {', '.join(self.falls)}"
        if self.above is not None:
            return f"> {self.above:g}"
        return "" if self.below is None else f"< {self.below:g}"


@dataclass(frozen=True)
class BoundedProtocol:
    """What is run, and what must come out.

    Args:
        settings: overrides of ``kancl run`` that all rows share.
    """

    name: str
    source: str
    n_seeds: int
    settings: tuple[str, ...]
    rows: tuple[Bound, ...]

    def chosen(self, names: Sequence[str]) -> list[Bound]:
        """The rows of these names with those they compare; all, if none is named.

        Raises: ConfigError for a name that no row has.
        """
        known = {row.name: row for row in self.rows}
        wanted = set(names)
        for name in names:
            if name not in known:
                raise ConfigError(
                    f"{self.name} has no row {name}; {nearest(name, known)}"
                )
            wanted |= set(known[name].falls)
        return [row for row in self.rows if not names or row.name in wanted]


@dataclass(frozen=True)
class BoundJudgement:
    """A row with the values of its runs, one per seed.

    Args:
        n_lost: runs that did not complete.
    """

    row: Bound
    values: tuple[float, ...]
    n_lost: int
    verdict: Verdict

    @property
    def cells(self) -> tuple[str, ...]:
        ends = sorted(self.values)[:: max(len(self.values) - 1, 1)]
        ours = " to ".join(dict.fromkeys(f"{value:.2g}" for value in ends))
        seeds = f"{len(self.values)}" + (
            f" ({self.n_lost} lost)" if self.n_lost else ""
        )
        if self.row.falls:
            seeds = ""
        elif not self.values:
            ours = "none completed"
        row = self.row
        measure = "" if row.falls else row.measure
        return row.name, row.says, measure, row.demand, ours, seeds, self.verdict


HEAD = ("row", "what", "measure", "must be", "ours", "seeds", "verdict")


def judge_bound(row: Bound, values: Sequence[float], n_lost: int = 0) -> BoundJudgement:
    """Judge a row by its runs' values; a run lost fails a bound."""
    verdict: Verdict = "shown"
    if row.above is not None or row.below is not None:
        kept = [
            (row.above is None or v > row.above)
            and (row.below is None or v < row.below)
            for v in values
        ]
        verdict = "PASS" if values and all(kept) and not n_lost else "FAIL"
    return BoundJudgement(row, tuple(values), n_lost, verdict)


def judge_fall(row: Bound, judged: Mapping[str, BoundJudgement]) -> BoundJudgement:
    """Judge whether the values of other rows fall, seed by seed."""
    others = [judged[name] for name in row.falls]
    lost = any(other.n_lost or not other.values for other in others)
    series = zip(*(other.values for other in others))
    falls = all(a > b for values in series for a, b in zip(values, values[1:]))
    return BoundJudgement(row, (), 0, "PASS" if falls and not lost else "FAIL")


def bounds_markdown(
    protocol: BoundedProtocol,
    judgements: Sequence[BoundJudgement],
    altered: Sequence[str] = (),
) -> str:
    """A section of RESULTS.md."""
    rows = [HEAD, ("---",) * len(HEAD), *(judgement.cells for judgement in judgements)]
    title = f"{protocol.name}, altered" if altered else protocol.name
    lines = [f"## {title}", "", protocol.source, ""]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    lines += ["", "- From the smallest to the largest of the seeds; the worst decides."]
    if altered:
        changed = ", ".join(f"`{text}`" for text in altered)
        lines.append(f"- NOT the protocol, so no verdict: {changed}.")
    return "\n".join(lines) + "\n"


def is_bounded(name: str) -> bool:
    """Whether a protocol is one of bounds.

    Raises: ConfigError with the nearest name if there is no such protocol.
    """
    return read_content(name).get("kind") == "bounds"


def read_bounds(name: str) -> BoundedProtocol:
    """Raises: ConfigError with the nearest name if there is no such protocol."""
    content = read_content(name)
    return BoundedProtocol(
        name,
        " ".join(str(content["source"]).split()),
        int(content["seeds"]),
        tuple(content["settings"]),
        tuple(_bound(row) for row in content["rows"]),
    )


def _bound(given: dict[str, Any]) -> Bound:
    return Bound(
        given["row"],
        given.get("says", ""),
        given.get("measure", "largest_rmse_increase"),
        given.get("above"),
        given.get("below"),
        tuple(given.get("falls", ())),
        tuple(given.get("settings", ())),
    )
