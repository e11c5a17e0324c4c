"""Read a protocol: what is run, and what each of its rows has to come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kancl.config import ConfigError, nearest
from kancl.config.files import read_mapping

FOLDER = Path(__file__).parent

ACCURACY = "average_accuracy"

TARGETS = ("row", "incremental", "paper %", "ours %", "difference", "tolerance")
BOUNDS = ("row", "what", "measure", "must be", "ours")


@dataclass(frozen=True)
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
    settings: tuple[str, ...] = ()
    incremental: str | None = None
    measure: str = ACCURACY
    gate: bool = True
    paper: float | None = None
    sem: float | None = None
    says: str = ""
    above: float | None = None
    below: float | None = None
    falls: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What the row can be asked for by."""
        if self.incremental is None:
            return (self.name,)
        return self.name, f"{self.name}/{self.incremental}"

    @property
    def decides(self) -> bool:
        """Whether the row passes or fails."""
        targets = (self.paper, self.above, self.below)
        return self.gate and (bool(self.falls) or any(t is not None for t in targets))

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
        n_seeds: of the paper.
        settings: overrides of ``kancl run`` that all rows share.
    """

    name: str
    source: str
    n_seeds: int
    settings: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Titles of its table: published accuracies, or bounds on another measure."""
        accuracies = all(row.measure == ACCURACY for row in self.rows)
        return (TARGETS if accuracies else BOUNDS) + ("seeds", "verdict")

    def chosen(self, names: Sequence[str]) -> list[Row]:
        """The rows of these names (``lwf``, or ``lwf/task`` for one of them) with those
        they compare; all rows if no name is given.

        Raises: ConfigError for a name that no row has.
        """
        known = dict.fromkeys(name for row in self.rows for name in row.names)
        for name in names:
            if name not in known:
                hint = nearest(name, known)
                raise ConfigError(f"{self.name} has no row {name}; {hint}")
        asked = set(names)
        for row in self.rows:
            if asked & {*row.names}:
                asked |= {*row.falls}
        return [row for row in self.rows if not names or asked & {*row.names}]


def protocol_names() -> list[str]:
    """The protocols there are."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_protocol(name: str) -> Protocol:
    """Raises: ConfigError with the nearest name if there is no such protocol."""
    if name not in protocol_names():
        hint = nearest(name, protocol_names())
        raise ConfigError(f"there is no protocol {name}; {hint}")
    content = read_mapping(FOLDER / f"{name}.yaml")
    measure = content.get("measure", ACCURACY)
    return Protocol(
        name,
        " ".join(content["source"].split()),
        content["seeds"],
        tuple(content["settings"]),
        tuple(_row(given, measure) for given in content["rows"]),
    )


def _row(given: dict[str, Any], measure: str) -> Row:
    fields: dict[str, Any] = {"measure": measure}
    for key, value in given.items():
        name = "name" if key == "row" else key
        fields[name] = tuple(value) if isinstance(value, list) else value
    return Row(**fields)
