"""Confounds: what else could explain a difference, or keep it from meaning much.

Only what the run folders tell. What they do not record is said once, under the table of
costs, not guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from statistics import fmean
from typing import Literal, NamedTuple

from kancl.metrics.statistics import ALPHA, pairs_needed, smallest_p
from kancl.reporting.measures import ERRORS, METRICS
from kancl.reporting.report.tuning import Tuning
from kancl.reporting.report.variants import Benchmark, Variant, shown, unlike
from kancl.reporting.report.verdicts import (
    EQUAL_SIZE,
    FEWEST_PAIRS,
    Comparison,
    training_differences,
)
from kancl.runs.reader import finite

OFF_GRID = 0.1
UNEQUAL_LEARNING = 0.05
UNEQUAL_FLOPS = 1.5
BUDGET = "Unequal tuning budget"
EDGE = "Optimum at the edge of its grid"


class Confound(NamedTuple):
    """One thing to know before believing a number.

    Args:
        level: a ``warning`` may change the verdict, a ``note`` is good to know.
    """

    level: Literal["warning", "note"]
    title: str
    text: str


Found = Iterator[Confound]
warning, note = partial(Confound, "warning"), partial(Confound, "note")


def confounds(
    benchmark: Benchmark,
    comparisons: Sequence[Comparison],
    tunings: Sequence[Tuning] = (),
) -> list[Confound]:
    """Every confound of a benchmark, warnings first; texts of one title in a row."""
    raised = [
        *_runs(benchmark),
        *_off_grid(benchmark),
        *_settings_tried(benchmark),
        *_tuned(benchmark, comparisons, tunings),
        *_provenance(benchmark),
    ]
    for comparison in comparisons:
        raised += [*_training(comparison), *_size(comparison), *_learning(comparison)]
    raised += _too_few(comparisons)
    texts: dict[tuple[Literal["warning", "note"], str], dict[str, None]] = {}
    for level, title, text in raised:
        texts.setdefault((level, title), {})[text] = None
    merged = [Confound(*key, " ".join(text)) for key, text in texts.items()]
    return sorted(merged, key=lambda confound: confound.level == "note")


def _runs(benchmark: Benchmark) -> Found:
    """Runs that are lost, stand twice, or contradict themselves."""
    lost = [
        f"{variant.label}: {variant.lost} of {len(variant.runs)}."
        for variant in benchmark.variants
        if variant.lost
    ]
    if lost:
        text = " ".join(lost) + " They are in no mean: what is left may be the lucky."
        yield warning("Runs without a result", text)
    for variant in benchmark.variants:
        for run in variant.repeated:
            (first,) = [r for r in variant.completed if r.seed == run.seed]
            same = all(run.metric(key) == first.metric(key) for key in first.metrics)
            numbers = "the same" if same else "OTHER"
            text = (
                f"{variant.label} seed {run.seed}: with {numbers} numbers. "
                "The first folder is used."
            )
            yield (note if same else warning)("A seed stands twice", text)
    for run in benchmark.runs:
        if run.completed and run.problems:
            text = f"{run.name}: {'; '.join(run.problems)}."
            yield warning("A run folder contradicts itself", text)


def _off_grid(benchmark: Benchmark) -> Found:
    text = (
        "Of the values that enter a spline layer after training, these lie outside "
        "its grid, where its splines are not local or not alive: "
    )
    variants = []
    for variant in benchmark.variants:
        runs = [run.summary.get("off_grid_share") for run in variant.completed]
        shares = [s for s in runs if isinstance(s, list) and None not in map(finite, s)]
        layers = [fmean(layer) for layer in zip(*shares)]
        worst = max(layers, default=0.0)
        if worst > OFF_GRID:
            layer = layers.index(worst) + 1
            variants.append(f"{variant.label}: {worst:.0%} into layer {layer}.")
    if variants:
        yield warning("Off-grid mass", text + " ".join(variants))


def _settings_tried(benchmark: Benchmark) -> Found:
    """What a grid of settings in the folders says about tuning."""
    tried: dict[tuple[str, str], list[Variant]] = {}
    for variant in benchmark.variants:
        same = tried.setdefault((variant.strategy, variant.model), [])
        if not any(_same_but_seeds(variant, other) for other in same):
            same.append(variant)
    for strategy in dict.fromkeys(strategy for strategy, _ in tried):
        counts = {m: len(v) for (s, m), v in tried.items() if s == strategy}
        if len(set(counts.values())) > 1:
            tried_by = ", ".join(f"{model} {n}" for model, n in counts.items())
            yield warning(BUDGET, f"Settings run under {strategy}: {tried_by}.")
    for variants in tried.values():
        yield from _edge(variants)


def _same_but_seeds(a: Variant, b: Variant) -> bool:
    """Crossed seeds are no settings that anyone could choose."""
    return all(key.startswith("seeds.") for key in unlike([a.settings, b.settings]))


def _edge(variants: Sequence[Variant]) -> Found:
    """A best value at the end of the values tried, where three or more were."""
    measured = [v for v in variants if v.by_seed("average_accuracy")]
    for key in unlike(variant.settings for variant in measured):
        given = [finite(variant.settings.get(key)) for variant in measured]
        values = sorted({value for value in given if value is not None})
        if len(values) < 3 or None in given:
            continue
        best = max(
            measured, key=lambda v: fmean(v.by_seed("average_accuracy").values())
        )
        value = finite(best.settings[key])
        if value in (values[0], values[-1]):
            which = "smallest" if value == values[0] else "largest"
            text = f"{best.model}-{best.strategy}: {key}={shown(value)} is the {which}."
            yield warning(EDGE, text)


def _tuned(
    benchmark: Benchmark, comparisons: Sequence[Comparison], tunings: Sequence[Tuning]
) -> Found:
    """What ``kancl tune`` wrote about the settings that were run."""
    tuned = {
        variant.label: tuning
        for variant in benchmark.variants
        for tuning in tunings
        if tuning.is_of(benchmark, variant)
    }
    for variant in benchmark.variants:
        tuning = tuned.get(variant.label)
        if tuning is None:
            continue
        for key in tuning.at_edge:
            text = f"{variant.label}: {key}={tuning.chosen[key]}, chosen by kancl tune."
            yield warning(EDGE, text)
        both = sorted(set(tuning.seeds) & set(variant.seeds))
        if both:
            text = f"{variant.label}: seeds {', '.join(map(str, both))}."
            yield warning("Reported on seeds that settings were chosen on", text)
    for c in comparisons:
        trials = [tuned[v.label].n_trials if v.label in tuned else 0 for v in c.both]
        if trials[0] != trials[1]:
            budgets = [f"{v.label} {n} trials" for v, n in zip(c.both, trials)]
            yield warning(BUDGET, f"{', '.join(budgets)}.")
        elif trials[0]:
            text = f"{c.strategy}: {trials[0]} trials each, on validation images."
            yield note("Tuned alike", text)


def _provenance(benchmark: Benchmark) -> Found:
    """What the network was told, and what code and machine the runs come from."""
    if benchmark.options.get("incremental") == "task":
        text = (
            "Task-incremental: every model is told which experience a test image comes "
            "from and has outputs of its own for each."
        )
        yield note("Experience identity used", text)
    runs = [run for run in benchmark.runs if run.completed]
    keys = ("commit", "torch", "avalanche", "device", "device_name", "threads")
    records = [{key: run.environment.get(key) for key in keys} for run in runs]
    for key in unlike(records):
        values = ", ".join(dict.fromkeys(shown(t[key])[:12] for t in records))
        yield warning("Not all made alike", f"{key}: {values}.")
    if any(run.environment.get("changed") for run in runs):
        text = "Some runs were made from files that differ from their commit."
        yield note("Uncommitted changes", text)


def _training(c: Comparison) -> Found:
    """Seeds and settings that only one of the two has."""
    for label, seeds in c.unpaired_seeds.items():
        names = ", ".join(map(str, seeds))
        text = f"{label}: seeds {names} have no partner, so no part in the difference."
        yield warning("Unequal seeds", text)
    for key in training_differences(*c.both):
        title = "Strategy set differently"
        if key.startswith(("optimizer.", "training.")):
            title = "Learning rate, schedule or training differs"
        a, b = (f"{shown(v.settings.get(key))} ({v.model})" for v in c.both)
        yield warning(title, f"{c.strategy}: {key} is {a}, {b}.")


def _size(c: Comparison) -> Found:
    for key, what in (("n_parameters", "parameters"), ("flops", "forward FLOPs")):
        ours, theirs = (variant.numbers(key) for variant in c.both)
        if not ours or not theirs or not theirs[0]:
            continue
        ratio = ours[0] / theirs[0]
        text = f"{c.title}: {ratio:.3g} times the {what}."
        if key == "flops":
            if not 1 / UNEQUAL_FLOPS < ratio < UNEQUAL_FLOPS:
                yield note("Unequal FLOPs", text)
        elif abs(ratio - 1) > EQUAL_SIZE:
            yield warning("Unequal parameters", text)


def _learning(c: Comparison) -> Found:
    difference = c.differences[c.learned]
    if difference is not None and abs(difference.mean) > UNEQUAL_LEARNING:
        show = METRICS[c.learned].text if c.learned in ERRORS else "{:.0%}".format
        means = [fmean(variant.by_seed(c.learned).values()) for variant in c.both]
        levels = [f"{show(mean)} ({v.model})" for mean, v in zip(means, c.both)]
        title = "Unequal learning: what was not learned cannot be forgotten"
        yield warning(title, f"{c.strategy}: {', '.join(levels)}.")


def _too_few(comparisons: Sequence[Comparison]) -> Found:
    counts = sorted({c.n_pairs for c in comparisons if 0 < c.n_pairs < pairs_needed()})
    for n in counts:
        end = "No verdict is given." if n < FEWEST_PAIRS else "So t decides alone."
        text = (
            f"With n = {n} the smallest p that an exact paired test can reach is "
            f"{smallest_p(n):.3g}; {pairs_needed()} seeds are needed for p < "
            f"{ALPHA:.2g}. {end}"
        )
        yield warning("Too few seeds for an exact test", text)
