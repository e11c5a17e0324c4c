"""Runs side by side: means, paired differences, and by epoch how they converge."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from kancl.reporting.measures import COSTS, METRICS
from kancl.reporting.pairing import model_title, pair_title, pairs
from kancl.reporting.table import UNDEFINED, Cell, Column, Estimate, Table
from kancl.reporting.variants import Variant
from kancl.runs.measurements import Measurement
from kancl.runs.reader import Run

Summary = Mapping[str, Any]

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
    """Means over seeds, differences paired over seeds, and what a reader has to know.

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
                apart = {k: Estimate.of_difference(a.minus(b, k)) for k in METRICS}
                cells = [apart.get(k, "") for k in columns]
                title = pair_title(a, b)
                below.append([*words, title, a.strategy, n_pairs, *cells])
    names = ["scenario"][: len(scenarios) - 1] + ["model", "strategy", "runs"]
    heads, notes = map(Column, names), [*_notes(summaries, pair_counts, twice)]
    return Table("", [*heads, *columns.values()], rows, below, notes)


def _variants(summaries: Iterable[Summary]) -> list[Variant]:
    runs: dict[tuple[str, str], list[Run]] = {}
    for s in summaries:
        run = Run(Path(), {"seed": s["seed"]}, {}, s, s["status"], recomputed=s)
        runs.setdefault((s["model"], s["strategy"]), []).append(run)
    return [Variant(*names, "", tuple(group)) for names, group in runs.items()]


def _notes(
    summaries: Sequence[Summary], pair_counts: set[int], twice: Sequence[str]
) -> Iterator[str]:
    if pair_counts - {1}:
        yield "±: 95 % t-interval of the difference, paired over seeds."
    if 1 in pair_counts:
        text = "A difference of one seed has no error bar: it may be chance."
        yield f"{text} Several seeds: -m seed=range(10)."
    for label in twice:
        yield f"{label}: several runs of one seed, so not paired."
    for status in ["diverged", "failed"]:
        if lost := [s for s in summaries if s["status"] == status]:
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


MARGIN = 0.005
"""Converged: within this fraction of the lower of the best validation accuracies."""


class Epochs(NamedTuple):
    """What was measured after every epoch of one run."""

    model: str
    iterations: tuple[int, ...]
    train_loss: tuple[float, ...]
    train_accuracy: tuple[float, ...]
    validation_loss: tuple[float, ...]
    validation_accuracy: tuple[float, ...]

    @classmethod
    def from_measurements(cls, rows: Iterable[Measurement], model: str) -> Epochs:
        """The validation stream is taken if there is one, else the test stream.

        Raises: ValueError if training data and the other stream were not evaluated
            after every epoch.
        """
        series: dict[str, dict[int, float]] = defaultdict(dict)
        for m in rows:
            if m.iteration:
                series[m.name][m.iteration] = m.value
        held_out = "validation" if "validation_loss" in series else "test"
        streams = product(("train", held_out), ("loss", "accuracy"))
        each = [series[f"{stream}_{what}"] for stream, what in streams]
        iterations = tuple(sorted(each[0]))
        if not iterations or any(each[0].keys() - values for values in each):
            raise ValueError(
                f"run {model!r} was not evaluated after every epoch; "
                "evaluation.each_epoch=true does it"
            )
        return cls(model, iterations, *(tuple(v[i] for i in iterations) for v in each))

    def epochs_to(self, accuracy: float) -> int | None:
        """First epoch (from 1) whose validation accuracy is at least this, or None."""
        epochs = enumerate(self.validation_accuracy, start=1)
        return next((epoch for epoch, value in epochs if value >= accuracy), None)

    @property
    def gap(self) -> float:
        return self.train_accuracy[-1] - self.validation_accuracy[-1]

    @property
    def loss_rise(self) -> float:
        """Validation loss after the last epoch above its lowest."""
        return self.validation_loss[-1] - min(self.validation_loss)


def convergence_table(runs: Sequence[Epochs]) -> Table:
    target = _target(runs)

    def percent(share: float) -> str:
        return f"{100 * share:.2f}"

    columns = (
        Column("model"),
        Column(f"epochs to\n{100 * target:.1f} %", str),
        Column("validation\naccuracy", percent, "%"),
        Column("best\n(epoch)", str),
        Column("training\naccuracy", percent, "%"),
        Column("training -\nvalidation", str),
        Column("validation\nloss", "{:.4f}".format),
        Column("above its\nlowest", "{:+.4f}".format),
    )
    rows: list[list[Cell]] = []
    for run in runs:
        reached = run.validation_accuracy
        best = f"{percent(max(reached))} ({run.epochs_to(max(reached))})"
        words = run.model, str(run.epochs_to(target)), reached[-1], best
        loss, gap = run.validation_loss[-1], f"{100 * run.gap:+.2f}"
        rows.append([*words, run.train_accuracy[-1], gap, loss, run.loss_rise])
    return Table("", columns, rows)


def convergence_answers(compared: Epochs, reference: Epochs) -> list[str]:
    """The three questions of the joint scenario, each answered in one sentence."""
    a, b, target = compared, reference, _target([compared, reference])
    epochs_a, epochs_b = a.epochs_to(target), b.epochs_to(target)
    assert epochs_a is not None and epochs_b is not None  # below both bests
    faster = "Yes" if epochs_a < epochs_b else "No"
    difference = 100 * (a.validation_accuracy[-1] - b.validation_accuracy[-1])
    close = "Yes" if abs(difference) <= 0.5 else "No"
    more = a if a.gap > b.gap else b
    return [
        f"Does the {model_title(a.model)} converge in fewer epochs? {faster}: "
        f"{100 * target:.1f} % is reached after epoch {epochs_a} ({a.model}) and "
        f"{epochs_b} ({b.model}).",
        f"Are the accuracies close? {close}: {difference:+.2f} points "
        f"({a.model} - {b.model}) after the last epoch.",
        f"Which of them overfits? {more.model} more: training - validation accuracy "
        f"{100 * a.gap:+.2f} ({a.model}) and {100 * b.gap:+.2f} ({b.model}); "
        f"validation loss above its lowest {a.loss_rise:+.4f} and {b.loss_rise:+.4f}.",
    ]


def _target(runs: Sequence[Epochs]) -> float:
    return min(max(run.validation_accuracy) for run in runs) - MARGIN
