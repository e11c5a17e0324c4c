"""What else could explain a difference, or keep it from meaning much.

Only what the run folders tell. What they do not record is said once, under the table of
costs, not guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from kancl.metrics.statistics import ALPHA, pairs_needed, smallest_p
from kancl.reporting.report.tuning import Tuning
from kancl.reporting.report.variants import Benchmark, Side, shown, unlike
from kancl.reporting.report.verdicts import (
    EQUAL_SIZE,
    FEWEST_PAIRS,
    Comparison,
    training_differences,
)
from kancl.runs.reader import Run, finite

OFF_GRID = 0.1
UNEQUAL_LEARNING = 0.05
UNEQUAL_FLOPS = 1.5
SCHEDULE = ("optimizer.", "training.")


@dataclass(frozen=True)
class Flag:
    """One thing to know before believing a number.

    Args:
        level: a ``warning`` may change the verdict, a ``note`` is good to know.
    """

    level: Literal["warning", "note"]
    title: str
    text: str


def flags(
    benchmark: Benchmark,
    comparisons: Sequence[Comparison],
    tunings: Sequence[Tuning] = (),
) -> list[Flag]:
    """Every flag of a benchmark, warnings first, each once."""
    found = [
        *_lost_runs(benchmark),
        *_repeated(benchmark),
        *_problems(benchmark),
        *_off_grid(benchmark),
        *_tuning(benchmark),
        *_tuned(benchmark, comparisons, tunings),
        *_identity(benchmark),
        *_code(benchmark),
    ]
    for comparison in comparisons:
        found += [
            *_pairs(comparison),
            *_training(comparison),
            *_size(comparison),
            *_learning(comparison),
        ]
    found += _too_few(comparisons)
    once = _merged(found)
    return sorted(once, key=lambda flag: flag.level == "note")


def _merged(found: Sequence[Flag]) -> list[Flag]:
    """Flags of one level and title as one, their texts in a row."""
    texts: dict[tuple[Any, str], dict[str, None]] = {}
    for flag in found:
        texts.setdefault((flag.level, flag.title), {})[flag.text] = None
    return [Flag(*key, " ".join(text)) for key, text in texts.items()]


def _lost_runs(benchmark: Benchmark) -> Iterator[Flag]:
    lost = []
    for side in benchmark.sides:
        bad = {s: n for s, n in side.counts().items() if s != "completed"}
        if bad:
            counts = ", ".join(f"{n} {status}" for status, n in bad.items())
            lost.append(f"{side.label}: {counts} of {len(side.runs)}.")
    if lost:
        text = " ".join(lost) + " They are in no mean: what is left may be the lucky."
        yield Flag("warning", "Runs without a result", text)


def _repeated(benchmark: Benchmark) -> Iterator[Flag]:
    for side in benchmark.sides:
        for run in side.repeated:
            (first,) = [r for r in side.completed if r.seed == run.seed]
            same = all(run.metric(key) == first.metric(key) for key in first.metrics)
            yield Flag(
                "note" if same else "warning",
                "A seed stands twice",
                f"{side.label} seed {run.seed}: "
                + ("with the same numbers." if same else "with OTHER numbers.")
                + " The first folder is used.",
            )


def _problems(benchmark: Benchmark) -> Iterator[Flag]:
    for run in benchmark.runs:
        if run.completed and run.problems:
            text = f"{run.name}: {'; '.join(run.problems)}."
            yield Flag("warning", "A run folder contradicts itself", text)


def _off_grid(benchmark: Benchmark) -> Iterator[Flag]:
    found = []
    for side in benchmark.sides:
        shares = off_grid(side)
        worst = max(shares, default=0.0)
        if worst > OFF_GRID:
            layer = shares.index(worst) + 1
            found.append(f"{side.label}: {worst:.0%} into layer {layer}.")
    if found:
        text = (
            "Of the values that enter a spline layer after training, these lie outside "
            "its grid, where its splines are not local or not alive: "
        )
        yield Flag("warning", "Off-grid mass", text + " ".join(found))


def off_grid(side: Side) -> list[float]:
    """Mean share of values outside the grid, per layer; empty if not recorded."""
    runs = [run.summary.get("off_grid_share") for run in side.completed]
    shares = [s for s in runs if isinstance(s, list) and s]
    shares = [s for s in shares if all(finite(x) is not None for x in s)]
    if not shares or len({len(s) for s in shares}) > 1:
        return []
    return [fmean(layer) for layer in zip(*shares)]


def _tuning(benchmark: Benchmark) -> Iterator[Flag]:
    """What a grid of settings in the folders says about tuning."""
    variants: dict[tuple[str, str], list[Side]] = {}
    for side in benchmark.sides:
        same = variants.setdefault((side.strategy, side.model), [])
        if not any(_same_but_seeds(side, other) for other in same):
            same.append(side)
    for strategy in dict.fromkeys(s for s, _ in variants):
        counts = {m: len(v) for (s, m), v in variants.items() if s == strategy}
        if len(set(counts.values())) > 1:
            tried = ", ".join(f"{model} {n}" for model, n in counts.items())
            text = f"Settings run under {strategy}: {tried}."
            yield Flag("warning", "Unequal tuning budget", text)
    for sides in variants.values():
        yield from _edge(sides)


def _tuned(
    benchmark: Benchmark, comparisons: Sequence[Comparison], tunings: Sequence[Tuning]
) -> Iterator[Flag]:
    """What ``kancl tune`` wrote about the settings that were run."""
    of = {
        side.label: tuning
        for side in benchmark.sides
        for tuning in tunings
        if tuning.is_of(benchmark, side)
    }
    for side in benchmark.sides:
        tuning = of.get(side.label)
        if tuning is None:
            continue
        for key in tuning.at_edge:
            text = f"{side.label}: {key}={tuning.chosen[key]}, chosen by kancl tune."
            yield Flag("warning", "Optimum at the edge of its grid", text)
        both = sorted(set(tuning.seeds) & set(side.seeds))
        if both:
            text = f"{side.label}: seeds {', '.join(map(str, both))}."
            yield Flag(
                "warning", "Reported on seeds that settings were chosen on", text
            )
    for comparison in comparisons:
        sides = (comparison.kan, comparison.mlp)
        trials = [of[s.label].n_trials if s.label in of else 0 for s in sides]
        if trials[0] != trials[1]:
            told = ", ".join(f"{s.label} {n} trials" for s, n in zip(sides, trials))
            yield Flag("warning", "Unequal tuning budget", f"{told}.")
        elif trials[0]:
            text = (
                f"{comparison.strategy}: {trials[0]} trials each, on validation images."
            )
            yield Flag("note", "Tuned alike", text)


def _same_but_seeds(a: Side, b: Side) -> bool:
    """Crossed seeds are no settings that anyone could choose."""
    return all(key.startswith("seeds.") for key in unlike([a.settings, b.settings]))


def _edge(sides: Sequence[Side]) -> Iterator[Flag]:
    """A best value at the end of the values tried, where three or more were."""
    means = {
        side.label: fmean(values)
        for side in sides
        if (values := side.by_seed("average_accuracy").values())
    }
    sides = [side for side in sides if side.label in means]
    for key in unlike(side.settings for side in sides):
        given = [finite(side.settings.get(key)) for side in sides]
        tried = sorted({value for value in given if value is not None})
        if len(tried) < 3 or None in given:
            continue
        best = max(sides, key=lambda side: means[side.label])
        value = finite(best.settings[key])
        if value in (tried[0], tried[-1]):
            which = "smallest" if value == tried[0] else "largest"
            text = f"{best.model}-{best.strategy}: {key}={shown(value)} is the {which}."
            yield Flag("warning", "Optimum at the edge of its grid", text)


def _identity(benchmark: Benchmark) -> Iterator[Flag]:
    if benchmark.options.get("incremental") == "task":
        text = (
            "Task-incremental: every model is told which experience a test image comes "
            "from and has outputs of its own for each."
        )
        yield Flag("note", "Experience identity used", text)


def _code(benchmark: Benchmark) -> Iterator[Flag]:
    runs = [run for run in benchmark.runs if run.completed]
    keys = ("commit", "torch", "avalanche", "device", "device_name", "threads")
    told = [{key: run.environment.get(key) for key in keys} for run in runs]
    for key in unlike(told):
        values = ", ".join(dict.fromkeys(shown(t[key])[:12] for t in told))
        yield Flag("warning", "Not all made alike", f"{key}: {values}.")
    if any(run.environment.get("changed") for run in runs):
        text = "Some runs were made from files that differ from their commit."
        yield Flag("note", "Uncommitted changes", text)


def _pairs(comparison: Comparison) -> Iterator[Flag]:
    for label, seeds in comparison.unpaired_seeds.items():
        names = ", ".join(map(str, seeds))
        text = f"{label}: seeds {names} have no partner, so no part in the difference."
        yield Flag("warning", "Unequal seeds", text)


def _training(comparison: Comparison) -> Iterator[Flag]:
    kan, mlp = comparison.kan, comparison.mlp
    for key in training_differences(kan, mlp):
        title = "Strategy set differently"
        if key.startswith(SCHEDULE):
            title = "Learning rate, schedule or training differs"
        a, b = shown(kan.settings.get(key)), shown(mlp.settings.get(key))
        text = f"{comparison.strategy}: {key} is {a} ({kan.model}), {b} ({mlp.model})."
        yield Flag("warning", title, text)


def _size(comparison: Comparison) -> Iterator[Flag]:
    for key, what in (("n_parameters", "parameters"), ("flops", "forward FLOPs")):
        kan, mlp = comparison.kan.numbers(key), comparison.mlp.numbers(key)
        if not kan or not mlp or not mlp[0]:
            continue
        ratio = kan[0] / mlp[0]
        text = f"{comparison.title}: {ratio:.3g} times the {what}."
        if key == "flops":
            if not 1 / UNEQUAL_FLOPS < ratio < UNEQUAL_FLOPS:
                yield Flag("note", "Unequal FLOPs", text)
        elif abs(ratio - 1) > EQUAL_SIZE:
            yield Flag("warning", "Unequal parameters", text)


def _learning(comparison: Comparison) -> Iterator[Flag]:
    difference = comparison.differences["learning_accuracy"]
    if difference is not None and abs(difference.mean) > UNEQUAL_LEARNING:
        a, b = (
            fmean(side.by_seed("learning_accuracy").values())
            for side in (comparison.kan, comparison.mlp)
        )
        text = f"{comparison.strategy}: {a:.0%} ({comparison.kan.model}), {b:.0%} "
        text += f"({comparison.mlp.model})."
        title = "Unequal learning: what was not learned cannot be forgotten"
        yield Flag("warning", title, text)


def _too_few(comparisons: Sequence[Comparison]) -> Iterator[Flag]:
    counts = sorted({c.n_pairs for c in comparisons if 0 < c.n_pairs < pairs_needed()})
    for n in counts:
        text = (
            f"With n = {n} the smallest p that an exact paired test can reach is "
            f"{smallest_p(n):.3g}; {pairs_needed()} seeds are needed for p < {ALPHA:.2g}"
        )
        text += (
            ". No verdict is given." if n < FEWEST_PAIRS else ", so t decides alone."
        )
        yield Flag("warning", "Too few seeds for an exact test", text)


def unreadable(runs: Sequence[Run]) -> list[Run]:
    """Runs of which not even the configuration can be read."""
    return [run for run in runs if not run.config]
