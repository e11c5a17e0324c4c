"""What else could explain a difference: only what the run folders tell."""

from collections.abc import Iterator, Sequence
from itertools import chain
from statistics import fmean
from typing import NamedTuple

from kancl.metrics.statistics import ALPHA, pairs_needed, smallest_p
from kancl.reporting.measures import ERRORS, METRICS
from kancl.reporting.variants import Benchmark, Tuning, Variant, shown, unlike
from kancl.reporting.verdicts import (
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
MADE_WITH = ("commit", "torch", "avalanche", "device", "device_name", "threads")


class Confound(NamedTuple):
    """One thing to know before believing a number."""

    title: str
    text: str
    level: str = "warning"  # may change the verdict; a "note" is good to know


def confounds(
    benchmark: Benchmark,
    comparisons: Sequence[Comparison],
    tunings: Sequence[Tuning] = (),
) -> list[Confound]:
    """Every confound of a benchmark, warnings first; texts of one title in a row. Of its
    trials only that there are some.
    """
    main = benchmark.main
    raised = chain(
        *(_runs(main), _off_grid(main), _settings_tried(benchmark)),
        *(_tuned(main, comparisons, tunings), _provenance(main)),
        *map(_unlike_training, comparisons),
        _too_few(comparisons),
    )
    texts: dict[tuple[str, str], dict[str, None]] = {}
    for title, text, level in raised:
        texts.setdefault((level, title), {})[text] = None
    merged = [Confound(t, " ".join(said), level) for (level, t), said in texts.items()]
    return sorted(merged, key=lambda confound: confound.level == "note")


def _runs(benchmark: Benchmark) -> Iterator[Confound]:
    variants = benchmark.variants
    if lost := [f"{v.label}: {v.lost} of {len(v.runs)}." for v in variants if v.lost]:
        lost.append("They are in no mean: what is left may be the lucky.")
        yield Confound("Runs without a result", " ".join(lost))
    for variant in variants:
        for run in variant.repeated:
            (first,) = [r for r in variant.completed if r.seed == run.seed]
            same = all(run.metric(key) == first.metric(key) for key in first.recomputed)
            numbers, level = ("the same", "note") if same else ("OTHER", "warning")
            text = f"{variant.label} seed {run.seed}: with {numbers} numbers. "
            text += "The first folder is used."
            yield Confound("A seed stands twice", text, level)
    for run in benchmark.runs:
        if run.completed and run.problems:
            text = f"{run.name}: {'; '.join(run.problems)}."
            yield Confound("A run folder contradicts itself", text)


def _off_grid(benchmark: Benchmark) -> Iterator[Confound]:
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
        text = (
            "Of the values that enter a spline layer after training, these lie outside "
            "its grid, where its splines are not local or not alive: "
        )
        yield Confound("Off-grid mass", text + " ".join(variants))


def _settings_tried(benchmark: Benchmark) -> Iterator[Confound]:
    tried: dict[tuple[str, str], list[Variant]] = {}
    for variant in benchmark.variants:
        same = tried.setdefault((variant.strategy, variant.model), [])
        # crossed seeds are no settings that anyone could choose
        others = (unlike([variant.settings, other.settings]) for other in same)
        if not any(all(key.startswith("seeds.") for key in keys) for keys in others):
            same.append(variant)
    for strategy in dict.fromkeys(strategy for strategy, _ in tried):
        counts = {m: len(v) for (s, m), v in tried.items() if s == strategy}
        if len(set(counts.values())) > 1:
            tried_by = ", ".join(f"{model} {n}" for model, n in counts.items())
            yield Confound(BUDGET, f"Settings run under {strategy}: {tried_by}.")
    for variants in tried.values():
        yield from _edge(variants)


def _edge(variants: Sequence[Variant]) -> Iterator[Confound]:
    """A best value at the end of the values tried, where three or more were."""
    reached = [v.by_seed("average_accuracy").values() for v in variants]
    means = [(fmean(values), v) for values, v in zip(reached, variants) if values]
    for key in unlike(variant.settings for _, variant in means):
        given = [finite(variant.settings.get(key)) for _, variant in means]
        values = sorted({value for value in given if value is not None})
        _, best = max(means, key=lambda pair: pair[0])
        value = finite(best.settings.get(key))
        if len(values) >= 3 and None not in given and value in (values[0], values[-1]):
            which = "smallest" if value == values[0] else "largest"
            name = f"{best.model}-{best.strategy}"
            yield Confound(EDGE, f"{name}: {key}={shown(value)} is the {which}.")


def _tuned(
    benchmark: Benchmark, comparisons: Sequence[Comparison], tunings: Sequence[Tuning]
) -> Iterator[Confound]:
    for tuning in tunings:
        if tuning.problem:
            yield Confound("A file of settings cannot be read", tuning.problem)
    tuned = {
        variant.label: (variant, tuning)
        for variant in benchmark.variants
        for tuning in tunings
        if tuning.is_of(benchmark, variant)
    }
    for label, (variant, tuning) in tuned.items():
        for key in tuning.at_edge:
            text = f"{label}: {key}={tuning.chosen[key]}, chosen by kancl tune."
            yield Confound(EDGE, text)
        if both := sorted(set(tuning.seeds) & set(variant.seeds)):
            text = f"{label}: seeds {', '.join(map(str, both))}."
            yield Confound("Reported on seeds that settings were chosen on", text)
    for c in comparisons:
        trials = [tuned[v.label][1].n_trials if v.label in tuned else 0 for v in c.both]
        if trials[0] != trials[1]:
            budgets = [f"{v.label} {n} trials" for v, n in zip(c.both, trials)]
            yield Confound(BUDGET, f"{', '.join(budgets)}.")
        elif trials[0]:
            text = f"{c.strategy}: {trials[0]} trials each, on validation images."
            yield Confound("Tuned alike", text, "note")


def _provenance(benchmark: Benchmark) -> Iterator[Confound]:
    """What the network was told, and what code and machine the runs come from."""
    if benchmark.options.get("incremental") == "task":
        text = (
            "Task-incremental: every model is told which experience a test image comes "
            "from and has outputs of its own for each."
        )
        yield Confound("Experience identity used", text, "note")
    runs = [run for run in benchmark.runs if run.completed]
    records = [{key: run.environment.get(key) for key in MADE_WITH} for run in runs]
    for key in unlike(records):
        values = ", ".join(dict.fromkeys(shown(t[key])[:12] for t in records))
        yield Confound("Not all made alike", f"{key}: {values}.")
    if any(run.environment.get("changed") for run in runs):
        text = "Some runs were made from files that differ from their commit."
        yield Confound("Uncommitted changes", text, "note")


def _unlike_training(c: Comparison) -> Iterator[Confound]:
    """Seeds, settings, sizes and what was learned, where the two differ."""
    for label, seeds in c.unpaired_seeds.items():
        names = ", ".join(map(str, seeds))
        text = f"{label}: seeds {names} have no partner, so no part in the difference."
        yield Confound("Unequal seeds", text)
    for key in training_differences(*c.both):
        title = "Strategy set differently"
        if key.startswith(("optimizer.", "training.")):
            title = "Learning rate, schedule or training differs"
        a, b = (f"{shown(v.settings.get(key))} ({v.model})" for v in c.both)
        yield Confound(title, f"{c.strategy}: {key} is {a}, {b}.")
    for key, what in (("n_parameters", "parameters"), ("flops", "forward FLOPs")):
        ours, theirs = (variant.numbers(key) for variant in c.both)
        if ours and theirs and theirs[0]:
            ratio = ours[0] / theirs[0]
            text = f"{c.title}: {ratio:.3g} times the {what}."
            if key == "n_parameters" and abs(ratio - 1) > EQUAL_SIZE:
                yield Confound("Unequal parameters", text)
            if key == "flops" and not 1 / UNEQUAL_FLOPS < ratio < UNEQUAL_FLOPS:
                yield Confound("Unequal FLOPs", text, "note")
    difference = c.differences[c.learned]
    if difference is not None and abs(difference.mean) > UNEQUAL_LEARNING:
        show = METRICS[c.learned].text if c.learned in ERRORS else "{:.0%}".format
        means = [fmean(variant.by_seed(c.learned).values()) for variant in c.both]
        levels = [f"{show(mean)} ({v.model})" for mean, v in zip(means, c.both)]
        title = "Unequal learning: what was not learned cannot be forgotten"
        yield Confound(title, f"{c.strategy}: {', '.join(levels)}.")


def _too_few(comparisons: Sequence[Comparison]) -> Iterator[Confound]:
    for n in sorted({c.n_pairs for c in comparisons if 0 < c.n_pairs < pairs_needed()}):
        end = "No verdict is given." if n < FEWEST_PAIRS else "So t decides alone."
        text = (
            f"With n = {n} the smallest p that an exact paired test can reach is "
            f"{smallest_p(n):.3g}; {pairs_needed()} seeds are needed for p < "
            f"{ALPHA:.2g}. {end}"
        )
        yield Confound("Too few seeds for an exact test", text)
