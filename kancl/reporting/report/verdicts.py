"""KAN against MLP, pair by pair: the differences, and what they allow to say.

A difference is called shown if Student's paired test, corrected by Holm for all rows of
the benchmark's table, gives p < 0.05, and the exact permutation test agrees wherever it
could: with 6 pairs or more. Of fewer than 5 pairs nothing is concluded: where models do
not differ, all of 4 signs agree by chance in one case of eight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from kancl.metrics.statistics import (
    ALPHA,
    Difference,
    holm,
    paired_difference,
    pairs_needed,
)
from kancl.reporting.comparison import model_title
from kancl.reporting.report.variants import Benchmark, Side

FEWEST_PAIRS = 5
COMPARED = {
    "forgetting": "forgetting",
    "learning_accuracy": "learning accuracy",
    "average_accuracy": "average accuracy",
}
"""Metrics that are tested, and what they are called."""

EQUAL_SIZE = 0.05
"""Sizes are equal within this fraction."""

Finding = Literal["lower", "higher", "not shown", "too few seeds", "not comparable"]


@dataclass(frozen=True)
class Comparison:
    """A KAN and an MLP with the same strategy on the same benchmark.

    Args:
        differences: KAN - MLP by metric, paired over seeds; None where no seed is
            shared or the metric is undefined.
        corrected: p of Student's paired test by metric, after Holm.
        n_tests: how many were corrected for, by metric.
    """

    kan: Side
    mlp: Side
    differences: dict[str, Difference | None]
    corrected: dict[str, float] = field(default_factory=dict)
    n_tests: dict[str, int] = field(default_factory=dict)

    @property
    def title(self) -> str:
        name = f"{model_title(self.kan.model)} - {model_title(self.mlp.model)}"
        variants = [side.variant for side in (self.kan, self.mlp) if side.variant]
        return f"{name} ({' against '.join(variants)})" if variants else name

    @property
    def strategy(self) -> str:
        return self.kan.strategy

    @property
    def n_pairs(self) -> int:
        return len(set(self.kan.seeds) & set(self.mlp.seeds))

    @property
    def unpaired_seeds(self) -> dict[str, list[int]]:
        """Completed seeds that only one side has, by its label."""
        a, b = self.kan, self.mlp
        found = {
            a.label: [seed for seed in a.seeds if seed not in b.seeds],
            b.label: [seed for seed in b.seeds if seed not in a.seeds],
        }
        return {label: seeds for label, seeds in found.items() if seeds}

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

    @property
    def verdict(self) -> str:
        """In words: does the KAN forget less? And, where it is shown, does it learn less,
        which leaves less to forget?
        """
        kan = model_title(self.kan.model)
        forgets = self.finding("forgetting")
        words = {
            "lower": f"{kan} forgets less",
            "higher": f"{kan} forgets more",
            "not shown": "no difference shown",
            "too few seeds": f"too few seeds to tell ({self.n_pairs})",
            "not comparable": "not comparable",
        }[forgets]
        learns = self.finding("learning_accuracy")
        if forgets in ("lower", "higher") and learns in ("lower", "higher"):
            link = "but" if learns == forgets else "and"
            words += f", {link} learns {'less' if learns == 'lower' else 'more'}"
        return words

    @property
    def evidence(self) -> str:
        """Difference, interval, pairs, and at what equality of sizes."""
        difference = self.differences["forgetting"]
        if difference is None:
            return self._why_not()
        text = (
            f"forgetting {points(difference)} points, n = {difference.n_pairs}, "
            f"{self.sizes}"
        )
        finding = self.finding("forgetting")
        interval = difference.interval
        if finding == "not shown" and interval and interval.excludes_zero():
            text += (
                "; the interval leaves 0 out, the tests do not (Holm, "
                f"{self.n_tests['forgetting']} comparisons)"
            )
        if finding in ("lower", "higher") and difference.n_pairs < pairs_needed():
            text += "; by Student's test alone, too few pairs for an exact one"
        return text

    @property
    def caveat(self) -> str:
        """What was learned at all, which forgetting is never to be read without."""
        difference = self.differences["learning_accuracy"]
        if difference is None:
            return ""
        words = {"lower": "it learns less", "higher": "it learns more"}
        found = words.get(self.finding("learning_accuracy"), "learning accuracy")
        return f"{found}: {points(difference)}"

    @property
    def sizes(self) -> str:
        """At matched parameters, FLOPs or width, or at unequal size."""
        kan, mlp = (side.numbers("n_parameters") for side in (self.kan, self.mlp))
        if not kan or not mlp:
            return "sizes not recorded"
        counts = f"({kan[0]:,.0f} and {mlp[0]:,.0f})"
        ratio = kan[0] / mlp[0]
        if abs(ratio - 1) <= EQUAL_SIZE:
            return f"at matched parameters {counts}"
        by = self.mlp.settings.get("match") or self.kan.settings.get("match")
        if by in ("flops", "width"):
            what = {"flops": "FLOPs", "width": "width"}[by]
            return f"at matched {what}, {ratio:.2g} times the parameters {counts}"
        return f"at UNEQUAL size: {ratio:.2g} times the parameters {counts}"

    def _why_not(self) -> str:
        for side in (self.kan, self.mlp):
            if not side.completed:
                return f"no run of {side.label} completed"
        if not self.n_pairs:
            return "no seed was run with both"
        for run in (*self.kan.completed, *self.mlp.completed):
            reason = run.metrics.get("undefined", {}).get("forgetting")
            if reason:
                return f"forgetting is undefined: {reason}"
        return "forgetting is undefined"


def points(difference: Difference) -> str:
    """``-6.8 [-18.2, +4.6]``, in percentage points."""
    text = f"{100 * difference.mean:+.1f}"
    if difference.interval is not None:
        low, high = difference.interval
        text += f" [{100 * low:+.1f}, {100 * high:+.1f}]"
    return text


def compare(benchmark: Benchmark) -> list[Comparison]:
    """Every KAN with the MLPs of its strategy, corrected over the whole table."""
    found = []
    for kan in benchmark.sides:
        if not kan.model.startswith("kan"):
            continue
        for mlp in _partners(kan, benchmark.sides):
            differences = {
                metric: paired_difference(kan.by_seed(metric), mlp.by_seed(metric))
                for metric in COMPARED
            }
            found.append(Comparison(kan, mlp, differences))
    return _corrected(found)


def headline(comparisons: Sequence[Comparison]) -> str:
    """One line for a benchmark."""
    if not comparisons:
        return "no KAN and MLP with the same strategy to compare"
    verdicts: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        verdicts.setdefault(comparison.verdict, []).append(comparison)
    kinds = {c.kan.label for c in comparisons} | {c.mlp.label for c in comparisons}
    if len(comparisons) == 1 or len(kinds) < 2:
        return f"{comparisons[0].verdict}: {comparisons[0].evidence}"
    parts = []
    for verdict, group in verdicts.items():
        under = ", ".join(dict.fromkeys(c.strategy for c in group))
        parts.append(f"{verdict} under {under}")
    return "; ".join(parts)


def _partners(kan: Side, sides: Sequence[Side]) -> list[Side]:
    """The MLPs of the same strategy whose training is most alike."""
    mlps = [
        s for s in sides if s.model.startswith("mlp") and s.strategy == kan.strategy
    ]
    if not mlps:
        return []
    distances = [len(training_differences(kan, mlp)) for mlp in mlps]
    return [mlp for mlp, d in zip(mlps, distances) if d == min(distances)]


def training_differences(a: Side, b: Side) -> list[str]:
    """Settings of strategy, optimizer and training that two sides do not share."""
    keys = a.settings.keys() | b.settings.keys()
    groups = ("strategy.", "optimizer.", "training.")
    return sorted(
        key
        for key in keys
        if key.startswith(groups) and a.settings.get(key) != b.settings.get(key)
    )


def _corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """With Holm's correction over all rows, metric by metric."""
    corrected: list[dict[str, float]] = [{} for _ in comparisons]
    n_tests: dict[str, int] = {}
    for metric in COMPARED:
        tests = [
            (row, difference)
            for row, comparison in enumerate(comparisons)
            if (difference := comparison.differences[metric]) is not None
        ]
        n_tests[metric] = len(tests)
        # without spread there is no t; the exact test needs none
        p_values = [d.p_permutation if d.p_t is None else d.p_t for _, d in tests]
        for (row, _), p in zip(tests, holm(p_values)):
            corrected[row][metric] = p
    return [
        replace(comparison, corrected=p, n_tests=n_tests)
        for comparison, p in zip(comparisons, corrected)
    ]
