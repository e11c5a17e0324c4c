"""The report's tables: four to read, and three with every unrounded number."""

from collections.abc import Sequence
from statistics import fmean, stdev

from kancl.metrics.forecast import RANKED_BY
from kancl.metrics.statistics import bootstrap_interval, t_interval
from kancl.reporting.measures import COMPARED, CONTINUAL, COSTS, METRICS, NOT_RECORDED
from kancl.reporting.table import UNDEFINED, Cell, Column, Estimate, Table
from kancl.reporting.variants import Benchmark, Variant
from kancl.reporting.verdicts import Comparison

Compared = Sequence[tuple[Benchmark, Sequence[Comparison]]]

ABSENT = (UNDEFINED, NOT_RECORDED)

TESTS = {
    "p_t": "p: t",
    "p_t_holm": "Holm",
    "p_permutation": "permutation",
    "p_wilcoxon": "Wilcoxon",
    "cohens_dz": "",
    "hedges_gz": "g_z",
}
"""What is calculated of a difference, with its title in a table to read."""

STATISTICS = ("mean", "sd", "low", "high", "bootstrap_low", "bootstrap_high")


def results(benchmark: Benchmark) -> Table:
    """What was reached, a row per variant: mean and 95 % t-interval over seeds."""
    measured, costs = _matrix_metrics([benchmark]), ("n_parameters", "train_seconds")
    rows: list[list[Cell]] = []
    for v in benchmark.variants:
        n, lost = len(v.runs), v.lost
        runs = f"{len(v.completed)} of {n} ({lost})" if lost else str(n)
        reached = [Estimate.of([*v.by_seed(key).values()]) for key in measured]
        rows.append([runs, *reached, *(_cost(v, key) for key in costs)])
    columns = [METRICS[key] for key in measured] + [COSTS[key] for key in costs]
    what = "results, mean ± half of the 95 % t-interval"
    return _by_variant(benchmark, what, [Column("runs", str), *columns], rows)


def continual(benchmark: Benchmark) -> Table | None:
    """What happened between the experience boundaries, a row per variant; None without
    any curve.
    """
    rows: list[list[Cell] | None] = []
    for v in benchmark.variants:
        cells: list[Cell] = []
        for values in ([*v.by_seed(key).values()] for key in CONTINUAL):
            n, n_runs = len(values), len(v.completed)
            note = f"({n} of {n_runs} runs)" if n < n_runs else ""
            cells.append(Estimate.of(values, note))
        rows.append(cells if v.by_seed("minimum_accuracy") else None)
    what = "between experience boundaries, mean ± half of the 95 % t-interval"
    table = _by_variant(benchmark, what, [*CONTINUAL.values()], rows)
    return table if table.rows else None


def forecast(benchmark: Benchmark) -> Table | None:
    """How well forecasts ranked what trainings took, a row per variant; None without any."""
    keys = {kind: f"forecast_{kind}_rho" for kind in RANKED_BY}
    kinds = {
        kind: key
        for kind, key in keys.items()
        if any(v.by_seed(key) for v in benchmark.variants)
    }
    rows = [
        [Estimate.of([*v.by_seed(key).values()]) for key in kinds.values()]
        for v in benchmark.variants
    ]
    what = "forecasts: rank correlation with accuracy lost, mean ± half of the 95 % t-interval"
    columns = [Column(kind, "{:+.2f}".format) for kind in kinds]
    return _by_variant(benchmark, what, columns, rows) if kinds else None


def cost(benchmark: Benchmark) -> Table:
    rows = [[_cost(v, key) for key in COSTS] for v in benchmark.variants]
    return _by_variant(benchmark, "cost, means over seeds", [*COSTS.values()], rows)


def _by_variant(
    benchmark: Benchmark,
    what: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell] | None],
) -> Table:
    """The rows with the names of the variants before them; None leaves one out."""
    varied = any(variant.distinction for variant in benchmark.variants)
    head = _columns("model", "strategy", *["settings"] * varied)
    named = [
        [*_names(variant)[: len(head)], *row]
        for variant, row in zip(benchmark.variants, rows)
        if row is not None
    ]
    return Table(f"{benchmark.title}: {what}", [*head, *columns], named)


def comparison(benchmark: Benchmark, comparisons: Sequence[Comparison]) -> Table:
    """A row per pair: differences, tests of that of forgetting, verdict."""
    shown = {key: title for key, title in TESTS.items() if title}
    rows: list[list[Cell]] = []
    for c in comparisons:
        tests, differences = _tests(c, c.lost), map(c.estimate, c.differences)
        words = c.title, c.strategy, c.verdict, c.n_pairs
        rows.append([*words, *differences, *(tests[key] for key in shown)])
    metrics = [METRICS[key] for key in COMPARED[benchmark.score.name]]
    columns = [*_columns("models", "strategy", "verdict"), Column("pairs", str)]
    columns += [Column(column.words, column.show) for column in metrics]
    for key, title in shown.items():
        columns.append(Column(title, _p if key[0] == "p" else "{:+.2f}".format))
    name, *others = {c.title for c in comparisons}
    if others:
        name = "differences"
    else:
        columns, rows = columns[1:], [row[1:] for row in rows]
    unit = "points " if metrics[0].unit == "%" else ""
    title = (
        f"{benchmark.title}: {name}, {unit}[95 % t-interval]; p-values and Hedges' g_z "
        f"are of {metrics[0].words}"
    )
    return Table(title, columns, rows)


def all_results(benchmarks: Sequence[Benchmark]) -> Table:
    """Every metric of every variant: a row per benchmark, variant and metric."""
    head = "benchmark model strategy settings metric runs completed n".split()
    rows: list[list[Cell]] = []
    for benchmark, v in [(b, v) for b in benchmarks for v in b.variants]:
        for metric in (*_matrix_metrics([benchmark]), *CONTINUAL):
            values = list(v.by_seed(metric).values())
            counts = len(v.runs), len(v.completed), len(values)
            words = [benchmark.title, *_names(v), metric]
            rows.append([*words, *counts, *_statistics(values)])
    return Table("", _columns(*head, *STATISTICS), rows)


def all_comparisons(compared: Compared) -> Table:
    head = "benchmark compared reference metric finding pairs".split()
    rows: list[list[Cell]] = []
    for benchmark, c in [(b, c) for b, comparisons in compared for c in comparisons]:
        for metric, d in c.differences.items():
            words = [benchmark.title, c.compared.label, c.reference.label, metric]
            values = () if d is None else d.values
            numbers = [*_statistics(values), *_tests(c, metric).values()]
            rows.append([*words, c.finding(metric), len(values), *numbers])
    return Table("", _columns(*head, *STATISTICS, *TESTS), rows)


def all_runs(benchmarks: Sequence[Benchmark]) -> Table:
    """A row per run, whatever became of it."""
    costs = [key for key in COSTS if key != "iterations_per_second"]
    metrics = [*_matrix_metrics(benchmarks), *CONTINUAL]
    rows: list[list[Cell]] = []
    for benchmark, v in [(b, v) for b in benchmarks for v in b.variants]:
        for run in (*v.runs, *v.repeated):
            numbers = [run.metric(metric) for metric in metrics]
            numbers += [run.number(key) for key in costs]
            words = [benchmark.title, *_names(v), run.seed, run.status]
            rows.append([*words, *numbers, run.name])
    head = "benchmark model strategy settings seed status".split()
    return Table("", _columns(*head, *metrics, *costs, "folder"), rows)


def _names(variant: Variant) -> list[Cell]:
    return [variant.model, variant.strategy, variant.distinction]


def _columns(*titles: str) -> list[Column]:
    return [Column(title) for title in titles]


def _tests(c: Comparison, metric: str) -> dict[str, Cell]:
    d, holm = c.differences[metric], c.corrected.get(metric)
    return {k: holm if k == "p_t_holm" else getattr(d, k, None) for k in TESTS}


def _statistics(values: Sequence[float]) -> list[Cell]:
    if not values:
        return [None] * len(STATISTICS)
    sd = stdev(values) if len(values) > 1 else None
    t, bootstrap = t_interval(values), bootstrap_interval(values)
    return [fmean(values), sd, *(t or (None, None)), *(bootstrap or (None, None))]


def _matrix_metrics(benchmarks: Sequence[Benchmark]) -> list[str]:
    units = {"%" if b.score.higher_is_better else "" for b in benchmarks}
    return [key for key, column in METRICS.items() if column.unit in units]


def _cost(variant: Variant, key: str) -> float | None:
    """The mean over seeds; of memory, the most."""
    if key == "iterations_per_second":
        done, took = variant.numbers("n_iterations"), variant.numbers("train_seconds")
        return sum(done) / sum(took) if done and sum(took) else None
    numbers = variant.numbers(key)
    most = max if key.endswith("_bytes") else fmean
    return most(numbers) if numbers else None


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
