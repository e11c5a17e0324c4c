"""A model against its reference, pair by pair: what the differences allow to say.

A difference is called shown if Student's paired test, corrected by Holm for all rows of
the benchmark's table, gives p < 0.05, and the exact permutation test agrees wherever it
could: with 6 pairs or more. Of fewer than 5 pairs nothing is concluded: where models do
not differ, all of 4 signs agree by chance in one case of eight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from kancl.metrics.paired import Difference, paired_difference
from kancl.metrics.statistics import ALPHA, holm, pairs_needed
from kancl.reporting.measures import COMPARED, ERRORS, METRICS
from kancl.reporting.pairing import model_title, pair_title, pairs
from kancl.reporting.report.variants import Benchmark, Variant
from kancl.reporting.table import Estimate

FEWEST_PAIRS = 5
EQUAL_SIZE = 0.05
"""Sizes are equal within this fraction."""

Finding = Literal["lower", "higher", "not shown", "too few seeds", "not comparable"]


@dataclass(frozen=True)
class Comparison:
    """A model and its reference with the same strategy on the same benchmark.

    Args:
        differences: compared - reference by metric, paired over seeds; None where no
            seed is shared or the metric is undefined. The first metric is what was
            lost, the second what was learned, the third what is left.
        corrected: p of Student's paired test by metric, after Holm.
        n_tests: how many were corrected for, by metric.
    """

    compared: Variant
    reference: Variant
    differences: dict[str, Difference | None]
    corrected: dict[str, float] = field(default_factory=dict)
    n_tests: dict[str, int] = field(default_factory=dict)

    @property
    def both(self) -> tuple[Variant, Variant]:
        return self.compared, self.reference

    @property
    def title(self) -> str:
        name = pair_title(*self.both)
        words = [variant.distinction for variant in self.both if variant.distinction]
        return f"{name} ({' against '.join(words)})" if words else name

    @property
    def strategy(self) -> str:
        return self.compared.strategy

    @property
    def n_pairs(self) -> int:
        return len(set(self.compared.seeds) & set(self.reference.seeds))

    @property
    def unpaired_seeds(self) -> dict[str, list[int]]:
        """Completed seeds that only one variant has, by its label."""
        found = {
            own.label: [seed for seed in own.seeds if seed not in other.seeds]
            for own, other in (self.both, self.both[::-1])
        }
        return {label: seeds for label, seeds in found.items() if seeds}

    @property
    def lost(self) -> str:
        """The metric of what was lost."""
        return list(self.differences)[0]

    @property
    def learned(self) -> str:
        """The metric of what was learned."""
        return list(self.differences)[1]

    def finding(self, metric: str) -> Finding:
        """What the difference of a metric allows to say."""
        difference = self.differences.get(metric)
        if difference is None:
            return "not comparable"
        if difference.n_pairs < FEWEST_PAIRS:
            return "too few seeds"
        if self.corrected[metric] >= ALPHA:
            return "not shown"
        could_tell = difference.n_pairs >= pairs_needed()
        if could_tell and difference.p_permutation >= ALPHA:
            return "not shown"
        return "higher" if difference.mean > 0 else "lower"

    def is_shown(self, metric: str) -> bool:
        return self.finding(metric) in ("lower", "higher")

    @property
    def learns(self) -> Literal["less", "more", ""]:
        """Whether the compared model is shown to learn less or more."""
        if not self.is_shown(self.learned):
            return ""
        worse = "higher" if self.learned in ERRORS else "lower"
        return "less" if self.finding(self.learned) == worse else "more"

    @property
    def verdict(self) -> str:
        """Whether the compared model forgets less; and where it is shown to learn less,
        that too, which leaves less to forget.
        """
        name = model_title(self.compared.model)
        words = {
            "lower": f"{name} forgets less",
            "higher": f"{name} forgets more",
            "not shown": "no difference shown",
            "too few seeds": f"too few seeds to tell ({self.n_pairs})",
            "not comparable": "not comparable",
        }[self.finding(self.lost)]
        if self.is_shown(self.lost) and self.learns:
            forgets = "less" if self.finding(self.lost) == "lower" else "more"
            link = "but" if self.learns == forgets else "and"
            words += f", {link} learns {self.learns}"
        return words

    @property
    def evidence(self) -> str:
        """Difference, interval, pairs, and at what equality of sizes."""
        metric = self.lost
        difference = self.differences[metric]
        if difference is None:
            return self._why_not()
        text = (
            f"{METRICS[metric].words} {self.points(metric)}, "
            f"n = {difference.n_pairs}, {self.sizes}"
        )
        shown, interval = self.is_shown(metric), difference.interval
        if self.finding(metric) == "not shown" and interval:
            if interval.excludes_zero():
                text += (
                    "; the interval leaves 0 out, the tests do not (Holm, "
                    f"{self.n_tests[metric]} comparisons)"
                )
        if shown and difference.n_pairs < pairs_needed():
            text += "; by Student's test alone, too few pairs for an exact one"
        return text

    @property
    def caveat(self) -> str:
        """What was learned at all, which forgetting is never to be read without."""
        if self.differences[self.learned] is None:
            return ""
        name = METRICS[self.learned].words
        words = f"it learns {self.learns}" if self.learns else name
        return f"{words}: {self.points(self.learned)}"

    def estimate(self, metric: str) -> Estimate | None:
        found = self.differences[metric]
        return Estimate.of_difference(found, ends=True)

    def points(self, metric: str) -> str:
        """``-6.8 [-18.2, +4.6] points``."""
        column = METRICS[metric]
        unit = " points" if column.unit == "%" else ""
        return f"{column.text(self.estimate(metric))}{unit}"

    @property
    def sizes(self) -> str:
        """At matched parameters, FLOPs or width, or at unequal size."""
        ours, theirs = (variant.numbers("n_parameters") for variant in self.both)
        if not ours or not theirs:
            return "sizes not recorded"
        counts = f"({ours[0]:,.0f} and {theirs[0]:,.0f})"
        ratio = ours[0] / theirs[0]
        if abs(ratio - 1) <= EQUAL_SIZE:
            return f"at matched parameters {counts}"
        matched = [variant.settings.get("match") for variant in self.both]
        by = matched[1] or matched[0]
        if by in ("flops", "width"):
            what = {"flops": "FLOPs", "width": "width"}[by]
            return f"at matched {what}, {ratio:.2g} times the parameters {counts}"
        return f"at UNEQUAL size: {ratio:.2g} times the parameters {counts}"

    def _why_not(self) -> str:
        for variant in self.both:
            if not variant.completed:
                return f"no run of {variant.label} completed"
        if not self.n_pairs:
            return "no seed was run with both"
        name = METRICS[self.lost].words
        for run in (*self.compared.completed, *self.reference.completed):
            reason = run.metrics.get("undefined", {}).get(self.lost)
            if reason:
                return f"{name} is undefined: {reason}"
        return f"{name} is undefined"


def compare(benchmark: Benchmark) -> list[Comparison]:
    """Every model with the references of its strategy whose training is most alike,
    corrected over the whole table.
    """
    found = pairs(
        benchmark.variants,
        lambda variant: variant.strategy,
        lambda a, b: len(training_differences(a, b)),
    )
    metrics = COMPARED[benchmark.score.name]
    comparisons = [
        Comparison(
            a, b, {m: paired_difference(a.by_seed(m), b.by_seed(m)) for m in metrics}
        )
        for a, b in found
    ]
    return _corrected(comparisons, metrics)


def headline(comparisons: Sequence[Comparison]) -> str:
    """One line for a benchmark."""
    if not comparisons:
        return "no KAN and MLP with the same strategy to compare"
    if len(comparisons) == 1:
        return f"{comparisons[0].verdict}: {comparisons[0].evidence}"
    strategies: dict[str, dict[str, None]] = {}
    for c in comparisons:
        strategies.setdefault(c.verdict, {})[c.strategy] = None
    return "; ".join(f"{v} under {', '.join(under)}" for v, under in strategies.items())


def training_differences(a: Variant, b: Variant) -> list[str]:
    """Settings of strategy, optimizer and training that two variants do not share."""
    return sorted(
        key
        for key in a.settings.keys() | b.settings.keys()
        if key.startswith(("strategy.", "optimizer.", "training."))
        and a.settings.get(key) != b.settings.get(key)
    )


def _corrected(
    comparisons: Sequence[Comparison], metrics: Sequence[str]
) -> list[Comparison]:
    """With Holm's correction over all rows, metric by metric."""
    corrected: list[dict[str, float]] = [{} for _ in comparisons]
    n_tests: dict[str, int] = {}
    for metric in metrics:
        found = [(k, c.differences[metric]) for k, c in enumerate(comparisons)]
        tests = [(k, difference) for k, difference in found if difference is not None]
        n_tests[metric] = len(tests)
        # without spread there is no t; the exact test needs none
        p_values = [d.p_permutation if d.p_t is None else d.p_t for _, d in tests]
        for (k, _), p in zip(tests, holm(p_values)):
            corrected[k][metric] = p
    return [
        replace(comparison, corrected=p, n_tests=n_tests)
        for comparison, p in zip(comparisons, corrected)
    ]
