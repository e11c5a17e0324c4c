"""Runs side by side: a row per model and strategy, then each pair's difference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from kancl.metrics.statistics import paired_difference
from kancl.reporting.measures import COSTS, METRICS
from kancl.reporting.pairing import pair_title, pairs
from kancl.reporting.report.variants import Variant
from kancl.reporting.table import UNDEFINED, Cell, Column, Estimate, Table
from kancl.runs.reader import Run

Summary = Mapping[str, Any]
"""What ``summary.json`` holds."""

LEFT_OUT = ("forward_transfer", "n_iterations", "eval_seconds")
COLUMNS = {
    key: replace(column, absent=UNDEFINED, starts_part=key == "n_parameters")
    for key, column in {**METRICS, **COSTS}.items()
    if key not in LEFT_OUT
}


def run_table(summary: Summary) -> Table:
    """One run: its metrics, what it cost, and why a metric is missing."""
    rows = [("status", summary["status"])]
    for key, column in COLUMNS.items():
        if key in summary:
            reason = summary.get("undefined", {}).get(key)
            why = f" ({reason})" if reason and summary[key] is None else ""
            rows.append((column.name, column.text(summary[key]) + why))
    return Table("", (Column(""), Column("", str)), rows)


def comparison_table(summaries: Sequence[Summary]) -> Table:
    """Means over seeds, differences paired over seeds, and what a reader has to know
    before believing them.

    Raises: ValueError without runs.
    """
    if not summaries:
        raise ValueError("no runs to compare")
    columns = {k: c for k, c in COLUMNS.items() if any(k in s for s in summaries)}
    scenarios = list(dict.fromkeys(s["scenario"] for s in summaries))
    rows: list[list[Cell]] = []
    below: list[list[Cell]] = []
    pair_counts = set()
    twice = []
    for scenario in scenarios:
        words = [scenario] if len(scenarios) > 1 else []
        variants = _variants(s for s in summaries if s["scenario"] == scenario)
        for v in variants:
            n, n_completed = len(v.runs), len(v.completed)
            counted = str(n) if n == n_completed else f"{n_completed} of {n}"
            numbers = [v.numbers(key) for key in columns]
            means = [fmean(values) if values else None for values in numbers]
            rows.append([*words, v.model, v.strategy, counted, *means])
        once = [v for v in variants if len(set(v.seeds)) == len(v.seeds)]
        twice += [v.label for v in variants if v not in once]
        for a, b in pairs(once, lambda variant: variant.strategy):
            n_pairs = len(set(a.seeds) & set(b.seeds))
            if n_pairs and columns.keys() & METRICS.keys():
                pair_counts.add(n_pairs)
                cells = [_difference(a, b, key) for key in columns]
                title = pair_title(a, b)
                below.append([*words, title, a.strategy, str(n_pairs), *cells])
    names = ["scenario"][: len(scenarios) - 1] + ["model", "strategy", "runs"]
    heads = [Column(name) for name in names]
    notes = [*_notes(summaries, pair_counts, twice)]
    return Table("", [*heads, *columns.values()], rows, below, notes)


def _variants(summaries: Iterable[Summary]) -> list[Variant]:
    runs: dict[tuple[str, str], list[Run]] = {}
    for s in summaries:
        run = Run(Path(), {"seed": s["seed"]}, {}, s, s["status"], metrics=s)
        runs.setdefault((s["model"], s["strategy"]), []).append(run)
    return [Variant(*names, "", tuple(group)) for names, group in runs.items()]


def _difference(a: Variant, b: Variant, key: str) -> Cell:
    if key not in METRICS:
        return ""
    return Estimate.of_difference(paired_difference(a.by_seed(key), b.by_seed(key)))


def _notes(
    summaries: Sequence[Summary], pair_counts: set[int], twice: Sequence[str]
) -> Iterator[str]:
    if pair_counts - {1}:
        yield "±: 95 % t-interval of the difference, paired over seeds."
    if 1 in pair_counts:
        yield (
            "A difference of one seed has no error bar: it may be chance. Several "
            "seeds: -m seed=range(10)."
        )
    for label in twice:
        yield f"{label}: several runs of one seed, so not paired."
    for status in ["diverged", "failed"]:
        lost = [s for s in summaries if s["status"] == status]
        if lost:
            names = [f"{s['model']}-{s['strategy']} seed {s['seed']}" for s in lost]
            yield f"{len(lost)} {status}, not in the means: {', '.join(names)}."
    # why metrics of completed runs are undefined, each reason once
    reasons: dict[str, dict[str, None]] = {}
    for s in summaries:
        for key, reason in s.get("undefined", {}).items():
            if s["status"] == "completed" and key in COLUMNS:
                reasons.setdefault(reason, {})[COLUMNS[key].words] = None
    for reason, words in reasons.items():
        yield f"{UNDEFINED} {', '.join(words)}: {reason}."
