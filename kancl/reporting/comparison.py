"""Runs side by side: means, paired differences, and by epoch how they converge."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from statistics import fmean
from typing import Any, NamedTuple

from kancl.reporting.measures import COMPARED, COSTS, METRICS
from kancl.reporting.pairing import model_title, pair_title
from kancl.reporting.table import UNDEFINED, Cell, Column, Estimate, Table
from kancl.reporting.variants import Benchmark, Variant, benchmarks, shown, telling
from kancl.reporting.verdicts import FEWEST_PAIRS, compare
from kancl.runs.measurements import Measurement
from kancl.runs.reader import STATUSES, Run

Summary = Mapping[str, Any]

LEFT_OUT = ("forward_transfer", "n_iterations", "eval_seconds")
BRIEF = {key: rank for keys in COMPARED.values() for rank, key in enumerate(keys[::-1])}
"""Metrics that a terminal shows, and in which order."""
SIZES = {
    "n_parameters": "parameters",
    "flops": "FLOPs per sample",
    "train_seconds": "s of training",
}
COLUMNS = {
    key: replace(column, absent=UNDEFINED, in_files_only=key not in BRIEF)
    for key, column in sorted(
        {**METRICS, **COSTS}.items(), key=lambda item: BRIEF.get(item[0], len(BRIEF))
    )
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


def comparison_table(runs: Sequence[Run]) -> Table:
    """A row per variant, means over seeds with half of their 95 % t-intervals; below,
    differences paired over seeds, with their verdicts; and what a reader has to know.

    A terminal shows what is compared; files have every metric and cost.

    Raises: ValueError without runs.
    """
    if not runs:
        raise ValueError("no runs to compare")
    judged = [(benchmark, compare(benchmark)) for benchmark in benchmarks(runs)]
    names = _scenario_names([benchmark for benchmark, _ in judged])
    told = [run.summary for run in runs]
    columns = {k: c for k, c in COLUMNS.items() if any(k in s for s in told)}
    rows: list[list[Cell]] = []
    below: list[list[Cell]] = []
    for name, (benchmark, comparisons) in zip(names, judged):
        for v in benchmark.variants:
            n, n_completed = len(v.runs), len(v.completed)
            counted = str(n) if n == n_completed else f"{n_completed} of {n}"
            cells = [_cell(v, key) for key in columns]
            words = [name, v.model, v.strategy, v.distinction]
            rows.append([*words, counted, *cells, ""])
        for c in comparisons:
            if c.n_pairs and columns.keys() & METRICS.keys():
                apart = {
                    k: Estimate.of_difference(c.compared.minus(c.reference, k))
                    for k in METRICS
                }
                words = [name, pair_title(*c.both), c.strategy, c.settings]
                cells = [apart.get(k, "") for k in columns]
                below.append([*words, c.n_pairs, *cells, c.outcome])
    heads = [
        *map(Column, ("scenario", "model", "strategy", "settings")),
        Column("seeds", str),
    ]
    heads += [*columns.values(), Column("verdict", wraps=True)]
    notes = [*_sizes(judged), *_notes([b for b, _ in judged], below)]
    return Table("", heads, rows, below, notes).without_empty_columns()


def _cell(variant: Variant, key: str) -> Cell:
    if key in METRICS:
        return Estimate.of([*variant.by_seed(key).values()])
    values = variant.numbers(key)
    return fmean(values) if values else None


def _scenario_names(groups: Sequence[Benchmark]) -> list[str]:
    """What tells benchmarks apart, in a few words; of a single one nothing."""
    options = [benchmark.options for benchmark in groups]
    bare = ("name", "incremental")  # values that need no key beside them
    return [
        " ".join(
            shown(each[key]) if key in bare else f"{key}={shown(each[key])}"
            for key in sorted(telling(options), key=lambda key: key not in bare)
        )
        for each in options
    ]


def _sizes(groups: Iterable[tuple[Benchmark, Any]]) -> Iterator[str]:
    """A line per model: its parameters and what it costs, from the least to the most."""
    variants: dict[str, list[Variant]] = {}
    for v in (v for benchmark, _ in groups for v in benchmark.variants):
        variants.setdefault(v.model, []).append(v)
    for model, group in variants.items():
        words = []
        for key, unit in SIZES.items():
            numbers = [number for v in group for number in v.numbers(key)]
            if numbers:
                show = COLUMNS[key].text
                ends = dict.fromkeys(map(show, (min(numbers), max(numbers))))
                words.append(f"{' to '.join(ends)} {unit}")
        if words:
            yield f"{model}: {', '.join(words)}"


def _notes(
    groups: Sequence[Benchmark], differences: Sequence[Sequence[Cell]]
) -> Iterator[str]:
    variants = [v for benchmark in groups for v in benchmark.variants]
    if any(len(v.seeds) > 1 for v in variants):
        yield "±: half of the 95 % t-interval over seeds; differences are paired."
    if any(row[4] == 1 for row in differences):
        text = "A difference of one seed has no error bar: it may be chance."
        yield f"{text} Several seeds: 'seed=range(10)'."
    elif any(row[-1] == "too few seeds" for row in differences):
        yield f"A verdict takes {FEWEST_PAIRS} seeds or more, such as 'seed=range(10)'."
    for v in variants:
        if v.repeated:
            again = ", ".join(str(run.seed) for run in v.repeated)
            yield f"{v.label}: counted once, though run again: seed {again}."
    for status in STATUSES[1:]:
        pairs = [(v, run) for v in variants for run in v.runs if run.status == status]
        if pairs:
            names = [f"{v.label} seed {run.seed}" for v, run in pairs]
            yield f"{len(pairs)} {status}, not in the means: {', '.join(names)}."
    # why metrics of completed runs are undefined, each reason once
    reasons: dict[str, dict[str, None]] = {}
    for run in (run for v in variants for run in v.completed):
        for key, reason in run.summary.get("undefined", {}).items():
            if key in COLUMNS:
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
    held_out: str = "validation"  # or "test", whose data stand for validation data then

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
        a, b, c, d = (tuple(v[i] for i in iterations) for v in each)
        return cls(model, iterations, a, b, c, d, held_out)

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
    target, held_out = _target(runs), runs[0].held_out

    def percent(share: float) -> str:
        return f"{100 * share:.2f}"

    columns = (
        Column("model"),
        Column(f"epochs to\n{100 * target:.1f} %", str),
        Column(f"{held_out}\naccuracy", percent, "%"),
        Column("best\n(epoch)", str),
        Column("training\naccuracy", percent, "%"),
        Column(f"training -\n{held_out}", str),
        Column(f"{held_out}\nloss", "{:.4f}".format),
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
        f"Which of them overfits? {more.model} more: training - {a.held_out} accuracy "
        f"{100 * a.gap:+.2f} ({a.model}) and {100 * b.gap:+.2f} ({b.model}); "
        f"{a.held_out} loss above its lowest {a.loss_rise:+.4f} and {b.loss_rise:+.4f}.",
    ]


def _target(runs: Sequence[Epochs]) -> float:
    return min(max(run.validation_accuracy) for run in runs) - MARGIN
