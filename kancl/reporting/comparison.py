"""Runs side by side: a row per model and strategy, then each pair's difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from kancl.metrics.paired import paired_difference
from kancl.reporting.measures import COSTS, METRICS
from kancl.reporting.pairing import pair_title, pairs
from kancl.reporting.table import UNDEFINED, Cell, Column, Estimate, Table

Summary = Mapping[str, Any]
"""What ``summary.json`` holds."""

LEFT_OUT = ("forward_transfer", "n_iterations", "eval_seconds")
COLUMNS = {
    key: replace(column, absent=UNDEFINED, starts_part=key == "n_parameters")
    for key, column in {**METRICS, **COSTS}.items()
    if key not in LEFT_OUT
}


@dataclass(frozen=True)
class Group:
    """The runs of one model and strategy on one scenario."""

    scenario: str
    model: str
    strategy: str
    runs: Sequence[Summary]

    @property
    def completed(self) -> list[Summary]:
        return [run for run in self.runs if run["status"] == "completed"]

    @property
    def n_runs(self) -> str:
        n, n_completed = len(self.runs), len(self.completed)
        return str(n) if n == n_completed else f"{n_completed} of {n}"

    def by_seed(self, key: str) -> dict[Any, float]:
        """A number of the completed runs by seed; empty where a seed has several runs,
        of which nobody knows which one is to be paired.
        """
        if len({run["seed"] for run in self.completed}) < len(self.completed):
            return {}
        return {r["seed"]: r[key] for r in self.completed if r.get(key) is not None}

    def mean(self, key: str) -> float | None:
        values = [r[key] for r in self.completed if r.get(key) is not None]
        return fmean(values) if values else None


def run_table(summary: Summary) -> Table:
    """One run: its metrics, what it cost, and why a metric is missing."""
    rows = [("status", summary["status"])]
    for key, column in COLUMNS.items():
        if key in summary:
            reason = summary.get("undefined", {}).get(key)
            text = column.text(summary[key])
            told = f"{text} ({reason})" if reason and summary[key] is None else text
            rows.append((column.name, told))
    return Table("", (Column(""), Column("", str)), rows)


def comparison_table(summaries: Sequence[Summary]) -> Table:
    """Means over seeds, differences paired over seeds, and what a reader has to know
    before believing them.

    Raises: ValueError without runs.
    """
    if not summaries:
        raise ValueError("no runs to compare")
    columns = {k: c for k, c in COLUMNS.items() if any(k in s for s in summaries)}
    groups = _groups(summaries)
    compared = pairs(groups, lambda group: (group.scenario, group.strategy))
    names = ["scenario", "model", "strategy"][len({g.scenario for g in groups}) == 1 :]
    rows = [
        [*(getattr(g, name) for name in names), g.n_runs, *map(g.mean, columns)]
        for g in groups
    ]
    below = []
    for a, b in compared:
        n_pairs = _n_pairs(a, b)
        if n_pairs and columns.keys() & METRICS.keys():
            both = replace(a, model=pair_title(a, b))
            words = [getattr(both, name) for name in names]
            cells = [_difference(a, b, key) for key in columns]
            below.append([*words, str(n_pairs), *cells])
    heads = [Column(name) for name in [*names, "runs"]]
    notes = [*_notes(summaries, groups, compared), *_reasons(groups)]
    return Table("", [*heads, *columns.values()], rows, below, notes)


def _groups(summaries: Sequence[Summary]) -> list[Group]:
    runs: dict[tuple[str, str, str], list[Summary]] = {}
    for s in summaries:
        runs.setdefault((s["scenario"], s["model"], s["strategy"]), []).append(s)
    return [Group(*key, group) for key, group in runs.items()]


def _n_pairs(a: Group, b: Group) -> int:
    return len(a.by_seed("seed").keys() & b.by_seed("seed").keys())


def _difference(a: Group, b: Group, key: str) -> Cell:
    if key not in METRICS:
        return ""
    found = paired_difference(a.by_seed(key), b.by_seed(key))
    return Estimate.of_difference(found)


def _notes(
    summaries: Sequence[Summary],
    groups: Sequence[Group],
    compared: Sequence[tuple[Group, Group]],
) -> list[str]:
    notes = []
    n_pairs = [_n_pairs(a, b) for a, b in compared]
    if max(n_pairs, default=0) > 1:
        notes.append("±: 95 % t-interval of the difference, paired over seeds.")
    if 1 in n_pairs:
        notes.append(
            "A difference of one seed has no error bar: it may be chance. Several "
            "seeds: -m seed=range(10)."
        )
    for group in groups:
        if group.completed and not group.by_seed("seed"):
            name = f"{group.model}-{group.strategy}"
            notes.append(f"{name}: several runs of one seed, so not paired.")
    for status in ["diverged", "failed"]:
        lost = [s for s in summaries if s["status"] == status]
        if lost:
            names = [f"{s['model']}-{s['strategy']} seed {s['seed']}" for s in lost]
            notes.append(f"{len(lost)} {status}, not in the means: {', '.join(names)}.")
    return notes


def _reasons(groups: Sequence[Group]) -> list[str]:
    """Why metrics of completed runs are undefined, each reason once."""
    reasons: dict[str, dict[str, None]] = {}
    for run in (run for group in groups for run in group.completed):
        for key, reason in run.get("undefined", {}).items():
            if key in COLUMNS:
                reasons.setdefault(reason, {})[COLUMNS[key].words] = None
    return [f"{UNDEFINED} {', '.join(names)}: {why}." for why, names in reasons.items()]
