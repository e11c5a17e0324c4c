"""The report's tables: four to read, and three with every unrounded number."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev

from kancl.metrics.statistics import bootstrap_interval, t_interval
from kancl.reporting.measures import COMPARED, CONTINUAL, COSTS, METRICS
from kancl.reporting.report.variants import Benchmark, Variant
from kancl.reporting.report.verdicts import Comparison
from kancl.reporting.table import UNDEFINED, Cell, Column, Estimate, Table

Compared = Sequence[tuple[Benchmark, Sequence[Comparison]]]
"""Benchmarks with what is compared on each."""


def results(benchmark: Benchmark) -> Table:
    """What was reached, a row per variant: mean and 95 % t-interval over seeds."""
    measured = _matrix_metrics([benchmark])
    costs = ("n_parameters", "train_seconds")
    rows = [
        [
            *_words(benchmark, variant),
            _runs(variant),
            *(Estimate.of([*variant.by_seed(key).values()]) for key in measured),
            *(_cost(variant, key) for key in costs),
        ]
        for variant in benchmark.variants
    ]
    columns = [*(METRICS[key] for key in measured), *(COSTS[key] for key in costs)]
    title = f"{benchmark.title}: results, mean ± half of the 95 % t-interval"
    return Table(title, [*_names(benchmark), Column("runs", str), *columns], rows)


def continual(benchmark: Benchmark) -> Table | None:
    """What happened between the experience boundaries, a row per variant; None without
    any curve.
    """
    rows = []
    for variant in benchmark.variants:
        if variant.by_seed("minimum_accuracy"):
            cells: list[Cell] = []
            for key in CONTINUAL:
                values = [*variant.by_seed(key).values()]
                n, n_runs = len(values), len(variant.completed)
                note = f"({n} of {n_runs} runs)" if n < n_runs else ""
                cells.append(Estimate.of(values, note))
            rows.append([*_words(benchmark, variant), *cells])
    title = (
        f"{benchmark.title}: between experience boundaries, mean ± half of the 95 % "
        "t-interval"
    )
    columns = [*_names(benchmark), *CONTINUAL.values()]
    return Table(title, columns, rows) if rows else None


def comparison(benchmark: Benchmark, comparisons: Sequence[Comparison]) -> Table:
    """A row per pair: differences, tests of that of forgetting, verdict."""
    rows: list[list[Cell]] = []
    for c in comparisons:
        d = c.differences[c.lost]
        tests: list[Cell] = [None] * 5
        if d is not None:
            tests = [d.p_t, c.corrected[c.lost], d.p_permutation, d.p_wilcoxon]
            tests.append(d.hedges_gz)
        differences = map(c.estimate, c.differences)
        words = [c.title, c.strategy, c.verdict]
        rows.append([*words, c.n_pairs, *differences, *tests])
    metrics = [METRICS[key] for key in COMPARED[benchmark.score.name]]
    columns = [Column("models"), Column("strategy"), Column("verdict")]
    columns.append(Column("pairs", str))
    columns += [Column(column.words, column.show) for column in metrics]
    columns += [
        Column(name, _p) for name in ("p: t", "Holm", "permutation", "Wilcoxon")
    ]
    columns.append(Column("g_z", "{:+.2f}".format))
    name = "differences"
    titles = {c.title for c in comparisons}
    if len(titles) == 1:
        name = titles.pop()
        columns, rows = columns[1:], [row[1:] for row in rows]
    unit = "points " if metrics[0].unit == "%" else ""
    title = (
        f"{benchmark.title}: {name}, {unit}[95 % t-interval]; p-values and Hedges' g_z "
        f"are of {metrics[0].words}"
    )
    return Table(title, columns, rows)


def cost(benchmark: Benchmark) -> Table:
    """What it took, a row per variant."""
    rows = [
        [*_words(benchmark, variant), *(_cost(variant, key) for key in COSTS)]
        for variant in benchmark.variants
    ]
    title = f"{benchmark.title}: cost, means over seeds"
    return Table(title, [*_names(benchmark), *COSTS.values()], rows)


def all_results(benchmarks: Sequence[Benchmark]) -> Table:
    """Every metric of every variant: a row per benchmark, variant and metric."""
    head = "benchmark model strategy settings metric runs completed n".split()
    rows: list[list[Cell]] = []
    for benchmark in benchmarks:
        for v in benchmark.variants:
            for metric in (*_matrix_metrics([benchmark]), *CONTINUAL):
                values = list(v.by_seed(metric).values())
                words = [benchmark.title, v.model, v.strategy, v.distinction, metric]
                counts = [len(v.runs), len(v.completed), len(values)]
                rows.append([*words, *counts, *_statistics(values)])
    return Table("", _raw(*head, *STATISTICS), rows)


def all_comparisons(compared: Compared) -> Table:
    """Every difference with every test."""
    head = "benchmark compared reference metric finding pairs".split()
    tests = "p_t p_t_holm p_permutation p_wilcoxon cohens_dz hedges_gz".split()
    rows: list[list[Cell]] = []
    for benchmark, comparisons in compared:
        for c in comparisons:
            for metric, d in c.differences.items():
                words = [benchmark.title, c.compared.label, c.reference.label, metric]
                values: Sequence[float] = ()
                numbers: list[Cell] = [None] * len(tests)
                if d is not None:
                    values = d.values
                    numbers = [d.p_t, c.corrected[metric], d.p_permutation]
                    numbers += [d.p_wilcoxon, d.cohens_dz, d.hedges_gz]
                n = len(values)
                words += [c.finding(metric)]
                rows.append([*words, n, *_statistics(values), *numbers])
    return Table("", _raw(*head, *STATISTICS, *tests), rows)


def all_runs(benchmarks: Sequence[Benchmark]) -> Table:
    """A row per run, whatever became of it."""
    costs = [key for key in COSTS if key != "iterations_per_second"]
    head = "benchmark model strategy settings seed status".split()
    metrics = [*_matrix_metrics(benchmarks), *CONTINUAL]
    rows: list[list[Cell]] = []
    for benchmark in benchmarks:
        for v in benchmark.variants:
            for run in (*v.runs, *v.repeated):
                words = [benchmark.title, v.model, v.strategy, v.distinction]
                numbers = [run.metric(metric) for metric in metrics]
                numbers += [run.number(key) for key in costs]
                rows.append([*words, run.seed, run.status, *numbers, run.name])
    return Table("", _raw(*head, *metrics, *costs, "folder"), rows)


STATISTICS = ("mean", "sd", "low", "high", "bootstrap_low", "bootstrap_high")


def _statistics(values: Sequence[float]) -> list[Cell]:
    if not values:
        return [None] * len(STATISTICS)
    sd = stdev(values) if len(values) > 1 else None
    t, bootstrap = t_interval(values), bootstrap_interval(values)
    return [fmean(values), sd, *(t or (None, None)), *(bootstrap or (None, None))]


def _raw(*titles: str) -> list[Column]:
    return [Column(title) for title in titles]


def _matrix_metrics(benchmarks: Sequence[Benchmark]) -> list[str]:
    """Metrics of the scores that the benchmarks are judged by."""
    units = {"%" if b.score.higher_is_better else "" for b in benchmarks}
    return [key for key, column in METRICS.items() if column.unit in units]


def _names(benchmark: Benchmark) -> list[Column]:
    varied = any(variant.distinction for variant in benchmark.variants)
    return _raw("model", "strategy", *["settings"] * varied)


def _words(benchmark: Benchmark, variant: Variant) -> list[Cell]:
    words = [variant.model, variant.strategy, variant.distinction]
    return [*words[: len(_names(benchmark))]]


def _runs(variant: Variant) -> str:
    n = len(variant.runs)
    return (
        f"{len(variant.completed)} of {n} ({variant.lost})" if variant.lost else str(n)
    )


def _cost(variant: Variant, key: str) -> float | None:
    """The mean over seeds; of memory, the most."""
    if key == "iterations_per_second":
        done, took = variant.numbers("n_iterations"), variant.numbers("train_seconds")
        return sum(done) / sum(took) if done and sum(took) else None
    numbers = variant.numbers(key)
    if not numbers:
        return None
    return max(numbers) if key.endswith("_bytes") else fmean(numbers)


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


ABSENT = (UNDEFINED, COSTS["n_parameters"].absent)
"""What stands for a missing number."""
