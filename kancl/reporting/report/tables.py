"""The report's tables: shown as HTML, Markdown and LaTeX, with raw numbers as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from kancl.metrics.continual import CONTINUAL_METRICS
from kancl.metrics.score_matrix import METRICS
from kancl.metrics.statistics import Difference, bootstrap_interval, t_interval
from kancl.reporting.comparison import UNDEFINED, count, prefixed, seconds, size
from kancl.reporting.report.variants import Benchmark, Side
from kancl.reporting.report.verdicts import COMPARED, Comparison, points

NOT_RECORDED = "not recorded"
ALL_METRICS = (*METRICS, *CONTINUAL_METRICS)


@dataclass(frozen=True)
class Sheet:
    """A table ready to be shown.

    Args:
        n_words: columns of words, the first ones; the others hold numbers.
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    n_words: int

    def markdown(self) -> str:
        rule = ["---"] * self.n_words + ["---:"] * (len(self.head) - self.n_words)
        rows = [self.head, tuple(rule), *self.rows]
        lines = ["| " + " | ".join(map(_markdown, row)) + " |" for row in rows]
        return "\n".join([f"**{_markdown(self.caption)}**", "", *lines]) + "\n"

    def latex(self) -> str:
        """For ``\\usepackage{booktabs}``."""
        columns = "l" * self.n_words + "r" * (len(self.head) - self.n_words)
        lines = [" & ".join(map(_latex, row)) + r" \\" for row in self.rows]
        return "\n".join(
            [
                r"\begin{table}",
                rf"\caption{{{_latex(self.caption)}}}",
                rf"\begin{{tabular}}{{{columns}}}",
                r"\toprule",
                " & ".join(map(_latex, self.head)) + r" \\",
                r"\midrule",
                *lines,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )


def results(benchmark: Benchmark) -> Sheet:
    """What was reached, a row per side: mean and 95 % t-interval over seeds."""
    names = [metric.replace("_", " ") + " %" for metric in METRICS]
    rows = []
    for side in benchmark.sides:
        cells = [_estimate(side.by_seed(metric)) for metric in METRICS]
        cost = [_first(side, "n_parameters", count)]
        cost.append(_mean(side, "train_seconds", seconds))
        rows.append((*_words(benchmark, side), _runs(side), *cells, *cost))
    head = (*_word_titles(benchmark), "runs", *names, "parameters", "training s")
    caption = f"{benchmark.title}: results, mean ± half of the 95 % t-interval"
    return Sheet(caption, head, tuple(rows), len(_word_titles(benchmark)))


def continual(benchmark: Benchmark) -> Sheet | None:
    """What happened between the borders, a row per side; None without any curve."""
    sides = [side for side in benchmark.sides if side.by_seed("minimum_accuracy")]
    if not sides:
        return None
    rows = []
    for side in sides:
        cells = []
        for metric in CONTINUAL_METRICS:
            scale = 1 if metric == "recovery_iterations" else 100
            cells.append(_estimate(side.by_seed(metric), scale, len(side.completed)))
        rows.append((*_words(benchmark, side), *cells))
    head = (*_word_titles(benchmark), *CONTINUAL_TITLES)
    caption = f"{benchmark.title}: between borders, mean ± half of the 95 % t-interval"
    return Sheet(caption, head, tuple(rows), len(_word_titles(benchmark)))


CONTINUAL_TITLES = (
    "min-ACC %",
    "WC-ACC %",
    "stability gap %",
    "recovery, iterations",
    "recovered %",
    "windowed forgetting %",
    "windowed plasticity %",
)


def comparison(benchmark: Benchmark, comparisons: Sequence[Comparison]) -> Sheet:
    """KAN - MLP, a row per pair: differences, tests of that of forgetting, verdict."""
    rows = []
    for c in comparisons:
        d = c.differences["forgetting"]
        differences = [_points(c.differences[metric]) for metric in COMPARED]
        tests = [UNDEFINED] * 5
        if d is not None:
            tests = [
                _p(d.p_t),
                _p(c.corrected["forgetting"]),
                _p(d.p_permutation),
                _p(d.p_wilcoxon),
                UNDEFINED if d.hedges_gz is None else f"{d.hedges_gz:+.2f}",
            ]
        cells = (c.strategy, c.verdict, str(c.n_pairs), *differences, *tests)
        rows.append((c.title, *cells))
    head = ("sides", "strategy", "verdict", "pairs", *COMPARED.values())
    head += ("p: t", "Holm", "permutation", "Wilcoxon", "g_z")
    sides = {row[0] for row in rows}
    name = f"{benchmark.title}: KAN - MLP"
    if len(sides) == 1:
        name = f"{benchmark.title}: {rows[0][0]}"
        head, rows = head[1:], [row[1:] for row in rows]
    caption = (
        f"{name}, points [95 % t-interval]; p-values and Hedges' g_z are of forgetting"
    )
    return Sheet(caption, head, tuple(rows), head.index("pairs"))


def cost(benchmark: Benchmark) -> Sheet:
    """What it took, a row per side."""
    columns: list[tuple[str, Callable[[Side], str]]] = [
        ("parameters", lambda s: _first(s, "n_parameters", count)),
        ("active per sample", lambda s: _first(s, "n_active_parameters", count)),
        ("FLOPs forward", lambda s: _first(s, "flops", prefixed)),
        ("FLOPs training", lambda s: _mean(s, "training_flops", prefixed)),
        ("iterations", lambda s: _mean(s, "n_iterations", count)),
        ("iterations / s", _iterations_per_second),
        ("training s", lambda s: _mean(s, "train_seconds", seconds)),
        ("evaluation s", lambda s: _mean(s, "eval_seconds", seconds)),
        ("peak memory", lambda s: _most(s, "peak_memory_bytes", size)),
        ("held by strategy", lambda s: _most(s, "strategy_bytes", size)),
    ]
    rows = [
        (*_words(benchmark, side), *(show(side) for _, show in columns))
        for side in benchmark.sides
    ]
    head = (*_word_titles(benchmark), *(title for title, _ in columns))
    caption = f"{benchmark.title}: cost, means over seeds"
    return Sheet(caption, head, tuple(rows), len(_word_titles(benchmark)))


def results_csv(benchmarks: Sequence[Benchmark]) -> str:
    """Every metric of every side, unrounded: a row per benchmark, side and metric."""
    rows: list[list[Any]] = []
    for benchmark in benchmarks:
        for side in benchmark.sides:
            for metric in ALL_METRICS:
                values = list(side.by_seed(metric).values())
                words = [benchmark.title, side.model, side.strategy, side.variant]
                counts = [len(side.runs), len(side.completed), len(values)]
                rows.append([*words, metric, *counts, *_statistics(values)])
    head = ["benchmark", "model", "strategy", "variant", "metric", "runs", "completed"]
    return _csv([*head, "n", *STATISTICS], rows)


def comparison_csv(pairs: Sequence[tuple[Benchmark, Sequence[Comparison]]]) -> str:
    """Every difference with every test, unrounded."""
    rows: list[list[Any]] = []
    for benchmark, comparisons in pairs:
        for c in comparisons:
            for metric, d in c.differences.items():
                words = [benchmark.title, c.kan.label, c.mlp.label, metric]
                finding = c.finding(metric)
                if d is None:
                    rows.append([*words, finding, 0])
                    continue
                tests = [d.p_t, c.corrected[metric], d.p_permutation, d.p_wilcoxon]
                numbers = [*_statistics(d.values), *tests, d.cohens_dz, d.hedges_gz]
                rows.append([*words, finding, d.n_pairs, *numbers])
    head = ["benchmark", "kan", "mlp", "metric", "finding", "pairs", *STATISTICS]
    head += ["p_t", "p_t_holm", "p_permutation", "p_wilcoxon", "cohens_dz"]
    return _csv([*head, "hedges_gz"], rows)


def runs_csv(benchmarks: Sequence[Benchmark]) -> str:
    """A row per run, whatever became of it."""
    costs = ["n_parameters", "n_active_parameters", "flops", "training_flops"]
    costs += ["n_iterations", "train_seconds", "eval_seconds", "peak_memory_bytes"]
    costs += ["strategy_bytes"]
    rows = []
    for benchmark in benchmarks:
        for side in benchmark.sides:
            for run in (*side.runs, *side.repeated):
                words = [benchmark.title, side.model, side.strategy, side.variant]
                numbers = [run.metric(metric) for metric in ALL_METRICS]
                numbers += [run.number(key) for key in costs]
                rows.append([*words, run.seed, run.status, *numbers, run.name])
    head = ["benchmark", "model", "strategy", "variant", "seed", "status"]
    return _csv([*head, *ALL_METRICS, *costs, "folder"], rows)


STATISTICS = ("mean", "sd", "low", "high", "bootstrap_low", "bootstrap_high")


def _statistics(values: Sequence[float]) -> list[float | None]:
    if not values:
        return [None] * len(STATISTICS)
    sd = stdev(values) if len(values) > 1 else None
    t, bootstrap = t_interval(values), bootstrap_interval(values)
    return [fmean(values), sd, *(t or (None, None)), *(bootstrap or (None, None))]


def _word_titles(benchmark: Benchmark) -> tuple[str, ...]:
    varied = any(side.variant for side in benchmark.sides)
    return ("model", "strategy", "settings") if varied else ("model", "strategy")


def _words(benchmark: Benchmark, side: Side) -> Iterator[str]:
    words = {"model": side.model, "strategy": side.strategy, "settings": side.variant}
    return (words[title] for title in _word_titles(benchmark))


def _runs(side: Side) -> str:
    lost = {s: n for s, n in side.counts().items() if s != "completed"}
    if not lost:
        return str(len(side.runs))
    counts = ", ".join(f"{n} {status}" for status, n in lost.items())
    return f"{len(side.completed)} of {len(side.runs)} ({counts})"


def _estimate(
    by_seed: dict[int, float], scale: float = 100, n_runs: int | None = None
) -> str:
    """Mean with its interval; of how many runs, where some have no value."""
    values = list(by_seed.values())
    if not values:
        return UNDEFINED
    text = f"{scale * fmean(values):.1f}"
    interval = t_interval(values)
    if interval:
        text += f" ± {scale * interval.half_width:.1f}"
    if n_runs is not None and len(values) < n_runs:
        text += f" ({len(values)} of {n_runs} runs)"
    return text


def _points(difference: Difference | None) -> str:
    return UNDEFINED if difference is None else points(difference)


def _p(p: float | None) -> str:
    if p is None:
        return UNDEFINED
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _first(side: Side, key: str, show: Callable[[float], str]) -> str:
    values = side.numbers(key)
    return show(values[0]) if values else NOT_RECORDED


def _mean(side: Side, key: str, show: Callable[[float], str]) -> str:
    values = side.numbers(key)
    return show(fmean(values)) if values else NOT_RECORDED


def _most(side: Side, key: str, show: Callable[[float], str]) -> str:
    values = side.numbers(key)
    return show(max(values)) if values else NOT_RECORDED


def _iterations_per_second(side: Side) -> str:
    iterations, took = side.numbers("n_iterations"), side.numbers("train_seconds")
    if not iterations or not sum(took):
        return NOT_RECORDED
    return count(sum(iterations) / sum(took))


def _csv(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for row in rows:
        padded = [*row, *[None] * (len(head) - len(row))]
        writer.writerow([_csv_cell(value) for value in padded])
    return text.getvalue()


def _csv_cell(value: Any) -> str:
    """Text that a spreadsheet does not take for a formula."""
    if value is None:
        return ""
    if isinstance(value, str) and value[:1] in "=+-@\t\r" and value:
        return f"'{value}"
    return repr(value) if isinstance(value, float) else str(value)


def _markdown(cell: str) -> str:
    for character in "\\|*`<>":
        cell = cell.replace(character, f"\\{character}")
    return " ".join(cell.split())


LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": r"$<$",
    ">": r"$>$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def _latex(cell: str) -> str:
    return "".join(LATEX.get(character, character) for character in cell)
