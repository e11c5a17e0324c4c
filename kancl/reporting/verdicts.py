"""A model against its reference, pair by pair: what the differences allow to say."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from kancl.metrics import statistics
from kancl.reporting.measures import COMPARED, ERRORS, METRICS
from kancl.reporting.pairing import model_title, pair_title, pairs
from kancl.reporting.table import Estimate
from kancl.reporting.variants import Benchmark, Variant, shown

FEWEST_PAIRS = 5
EQUAL_SIZE = 0.05


@dataclass(frozen=True)
class Comparison:
    """A model and its reference with the same strategy on the same benchmark.

    Args:
        lost, learned: the metrics of what was lost and learned.
        differences: compared - reference by metric, paired over seeds; None where no
            seed is shared or the metric is undefined.
        corrected: p of Student's paired test by metric, after Holm; none where there are
            too few pairs for a verdict.
        n_tests: how many were corrected for, by metric.
    """

    compared: Variant
    reference: Variant
    lost: str
    learned: str
    differences: dict[str, statistics.Difference | None]
    corrected: dict[str, float] = field(default_factory=dict)
    n_tests: dict[str, int] = field(default_factory=dict)

    @property
    def both(self) -> tuple[Variant, Variant]:
        return self.compared, self.reference

    @property
    def title(self) -> str:
        """``KAN - MLP``, with the settings that tell either from others like it."""
        return pair_title(*self.both) + (f" ({self.settings})" if self.settings else "")

    @property
    def settings(self) -> str:
        """What tells either variant from others like it, of both if they differ in it."""
        words = [variant.distinction for variant in self.both if variant.distinction]
        return " against ".join(dict.fromkeys(words))

    @property
    def strategy(self) -> str:
        return " - ".join(dict.fromkeys(variant.strategy for variant in self.both))

    @property
    def n_pairs(self) -> int:
        return len(set(self.compared.seeds) & set(self.reference.seeds))

    @property
    def unpaired_seeds(self) -> dict[str, list[int]]:
        """Completed seeds that only one variant has, by its label."""
        return {
            own.label: alone
            for own, other in (self.both, self.both[::-1])
            if (alone := [seed for seed in own.seeds if seed not in other.seeds])
        }

    def finding(self, metric: str) -> str:
        """``lower`` or ``higher`` if Student's paired test, after Holm over all rows of the
        benchmark's table that have pairs enough, gives p < 0.05, and the exact permutation
        test agrees where it could: with 6 pairs or more. Of 4 pairs, all signs agree by
        chance in one of eight.
        """
        difference = self.differences[metric]
        if difference is None:
            return "not comparable"
        if difference.n_pairs < FEWEST_PAIRS:
            return "too few seeds"
        enough = difference.n_pairs >= statistics.pairs_needed()
        exact = difference.p_permutation if enough else 0
        if max(self.corrected[metric], exact) >= statistics.ALPHA:
            return "not shown"
        return "higher" if difference.mean > 0 else "lower"

    def is_shown(self, metric: str) -> bool:
        return self.finding(metric) in ("lower", "higher")

    @property
    def learns(self) -> str:
        """``less`` or ``more`` where the compared model is shown to learn so."""
        if not self.is_shown(self.learned):
            return ""
        worse = "higher" if self.learned in ERRORS else "lower"
        return "less" if self.finding(self.learned) == worse else "more"

    @property
    def outcome(self) -> str:
        """What the compared model is shown to do, in a few words without its name."""
        finding = self.finding(self.lost)
        if not self.is_shown(self.lost):
            return "no difference shown" if finding == "not shown" else finding
        forgets = "less" if finding == "lower" else "more"
        link = "but" if self.learns == forgets else "and"
        learns = f", {link} learns {self.learns}" if self.learns else ""
        return f"forgets {forgets}{learns}"

    @property
    def verdict(self) -> str:
        """Whether the compared model forgets less, and what it is shown to learn."""
        if self.is_shown(self.lost):
            return f"{model_title(self.compared.model)} {self.outcome}"
        few = f" to tell ({self.n_pairs})" * (self.outcome == "too few seeds")
        return f"{self.outcome}{few}"

    @property
    def evidence(self) -> str:
        metric, name = self.lost, METRICS[self.lost].words
        difference, finding = self.differences[metric], self.finding(metric)
        if difference is None:
            return self._why_not(name)
        n, interval = difference.n_pairs, difference.interval
        text = f"{name} {self.in_words(metric)}, {n} paired seeds, {self.sizes}"
        if self.is_shown(metric) and n < statistics.pairs_needed():
            text += "; by Student's test alone, too few pairs for an exact one"
        elif finding == "not shown" and interval and interval.excludes_zero():
            holm_of = f"(Holm, {self.n_tests[metric]} comparisons)"
            text += f"; the interval leaves 0 out, the tests do not {holm_of}"
        return text

    @property
    def caveat(self) -> str:
        """What was learned at all, which forgetting is never to be read without."""
        if self.differences[self.learned] is None:
            return ""
        learns = f"it learns {self.learns}: " if self.learns else ""
        name = METRICS[self.learned].words
        return f"{learns}{name} {self.in_words(self.learned)}"

    def estimate(self, metric: str) -> Estimate | None:
        return Estimate.of_difference(self.differences[metric], ends=True)

    def in_words(self, metric: str) -> str:
        """``6.8 points lower (95 % interval: from 18.2 lower to 4.6 higher)``."""
        difference, show = self.differences[metric], METRICS[metric].text
        assert difference is not None

        def way(value: float) -> str:
            return (
                "" if show(abs(value)) == show(0) else "lower" * (value < 0) or "higher"
            )

        def apart(value: float) -> str:
            return f"{show(abs(value))} {way(value)}".rstrip()

        unit = " points" * (METRICS[metric].unit == "%")
        text = f"{show(abs(difference.mean))}{unit} {way(difference.mean) or 'apart'}"
        if difference.interval is None:
            return f"{text} (no interval of one seed)"
        low, high = difference.interval
        span = f"from {apart(low)} to {apart(high)}"
        if way(low) == way(high):
            smallest, largest = sorted(map(abs, (low, high)))
            span = f"{show(smallest)} to {show(largest)} {way(low)}".rstrip()
        return f"{text} (95 % interval: {span})"

    @property
    def sizes(self) -> str:
        ours, theirs = (variant.numbers("n_parameters") for variant in self.both)
        if not ours or not theirs:
            return "sizes not recorded"
        counts = f"({ours[0]:,.0f} and {theirs[0]:,.0f})"
        ratio = ours[0] / theirs[0]
        if abs(ratio - 1) <= EQUAL_SIZE:
            return f"at matched parameters {counts}"
        matched = [variant.settings.get("match") for variant in self.both]
        what = {"flops": "FLOPs", "width": "width"}.get(str(matched[1] or matched[0]))
        how = f"at matched {what}," if what else "at UNEQUAL size:"
        return f"{how} {ratio:.2g} times the parameters {counts}"

    def _why_not(self, name: str) -> str:
        for variant in self.both:
            if not variant.completed:
                return f"no run of {variant.label} completed"
        if not self.n_pairs:
            return "no seed was run with both"
        runs = [*self.compared.completed, *self.reference.completed]
        reasons = [run.recomputed.get("undefined", {}).get(self.lost) for run in runs]
        return ": ".join([f"{name} is undefined", *filter(None, reasons)][:2])


def compare(benchmark: Benchmark) -> list[Comparison]:
    """Every model with all networks that are its references under the same strategy, each
    in the training most like its own; of just two variants, the second with the first,
    whatever they are.
    """
    metrics = COMPARED[benchmark.score.name]
    comparisons = []
    found = pairs(
        benchmark.variants,
        lambda variant: variant.strategy,
        lambda a, b: len(training_differences(a, b)),
        lambda b: shown([v for k, v in b.settings.items() if k.startswith("model.")]),
    )
    if not found and len(benchmark.variants) == 2:
        found = [benchmark.variants[::-1]]
    for a, b in found:
        differences = {metric: a.minus(b, metric) for metric in metrics}
        comparisons.append(Comparison(a, b, *metrics[:2], differences))
    for metric in metrics:
        each = [(c, c.differences[metric]) for c in comparisons]
        # what gets no verdict anyway, such as a trial on one seed, weakens no other
        tests = [(c, d) for c, d in each if d and d.n_pairs >= FEWEST_PAIRS]
        # without spread there is no t; the exact test needs none
        p_values = [d.p_permutation if d.p_t is None else d.p_t for _, d in tests]
        for (comparison, _), p in zip(tests, statistics.holm(p_values)):
            comparison.corrected[metric] = p
            comparison.n_tests[metric] = len(tests)
    return comparisons


def headline(comparisons: Sequence[Comparison]) -> str:
    if len(comparisons) == 1:
        return f"{comparisons[0].verdict}: {comparisons[0].evidence}"
    strategies: dict[str, dict[str, None]] = {}
    for c in comparisons:
        strategies.setdefault(c.verdict, {})[c.strategy] = None
    under = [f"{verdict} under {', '.join(of)}" for verdict, of in strategies.items()]
    return "; ".join(under) or "no KAN and MLP with the same strategy to compare"


def training_differences(a: Variant, b: Variant) -> list[str]:
    """Settings of strategy, optimizer and training that two variants do not share."""
    return sorted(
        key
        for key in a.settings.keys() | b.settings.keys()
        if key.startswith(("strategy.", "optimizer.", "training."))
        and a.settings.get(key) != b.settings.get(key)
    )
