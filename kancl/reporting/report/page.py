"""The report as one HTML file that needs nothing else: no network, no script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

import kancl
from kancl.reporting.figures import forgetting_curves, score_matrix
from kancl.reporting.report import figures, tables
from kancl.reporting.report.confounds import Confound, confounds
from kancl.reporting.report.tables import Compared
from kancl.reporting.report.tuning import Tuning
from kancl.reporting.report.variants import (
    Benchmark,
    Variant,
    flattened,
    shown,
    unlike,
)
from kancl.reporting.report.verdicts import Comparison, headline
from kancl.reporting.table import Table
from kancl.runs.reader import STATUSES, Run


@dataclass(frozen=True)
class Section:
    """What the page shows of one benchmark."""

    benchmark: Benchmark
    comparisons: Sequence[Comparison]
    headline: str
    n_titles: int
    confounds: Sequence[Confound]
    comparison: Table
    results: Table
    continual: Table | None
    cost: Table
    differences: Markup | None
    scatter: Markup | None
    curves: Sequence[Markup]
    matrices: Sequence[Markup]
    protocol: Sequence[tuple[str, str]]


def page(
    runs: Sequence[Run], compared: Compared, tunings: Sequence[Tuning] = ()
) -> str:
    """The whole page. Every word that comes from a file is escaped."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    files = resources.files("kancl.reporting.report")
    template = environment.from_string((files / "page.html").read_text())
    counts = Counter(run.status for run in runs)
    return template.render(
        style=Markup((files / "style.css").read_text()),
        sections=[section(b, c, tunings) for b, c in compared],
        strategies={v.strategy for b, _ in compared for v in b.variants},
        counts=[f"{counts[status]} {status}" for status in STATUSES if counts[status]],
        lost=[run for run in runs if not run.completed],
        all_runs=runs,
        absent=tables.ABSENT,
        version=kancl.__version__,
    )


def section(
    benchmark: Benchmark,
    comparisons: Sequence[Comparison],
    tunings: Sequence[Tuning] = (),
) -> Section:
    def drawn(figure: Figure | None, what: str) -> Markup | None:
        title = f"{benchmark.title}: {what}"
        return None if figure is None else Markup(figures.svg(figure, title))

    shown_differences = figures.differences(comparisons) if comparisons else None
    scatter = figures.stability_plasticity(benchmark)
    curves = [drawn(figure, what) for what, figure in _curves(benchmark).items()]
    matrices = [drawn(figure, what) for what, figure in _matrices(benchmark).items()]
    return Section(
        benchmark,
        comparisons,
        headline(comparisons),
        len({c.title for c in comparisons}),
        confounds(benchmark, comparisons, tunings),
        tables.comparison(benchmark, comparisons),
        tables.results(benchmark),
        tables.continual(benchmark),
        tables.cost(benchmark),
        drawn(shown_differences, "differences"),
        drawn(scatter, "forgetting against learning"),
        [picture for picture in curves if picture],
        [picture for picture in matrices if picture],
        protocol(benchmark),
    )


def protocol(benchmark: Benchmark) -> list[tuple[str, str]]:
    """What was done, on one card; where variants differ, each value with its owners."""
    rows = [(f"scenario.{key}", shown(v)) for key, v in benchmark.options.items()]
    settings = [variant.settings for variant in benchmark.variants]
    differing = set(unlike(settings))
    for key in dict.fromkeys(key for s in settings for key in s):
        if key.endswith(".name") or key == "match_to.name":
            continue
        if key not in differing:
            rows.append((key, shown(settings[0].get(key))))
            continue
        values: dict[str, dict[str, None]] = {}
        for variant, given in zip(benchmark.variants, settings):
            if key in given:
                owner = _owner(key, variant)
                values.setdefault(shown(given[key]), {})[owner] = None
        told = [f"{value} ({', '.join(owners)})" for value, owners in values.items()]
        rows.append((key, "; ".join(told)))
    for variant in benchmark.variants:
        hidden = variant.example.summary.get("hidden")
        if hidden:
            rows.append((f"hidden widths, {variant.label}", shown(hidden)))
    seeds = {v.label: ", ".join(map(str, v.seeds)) for v in benchmark.variants}
    if len(set(seeds.values())) == 1:
        rows.append(("seeds", next(iter(seeds.values()))))
    else:
        rows += [(f"seeds, {label}", text) for label, text in seeds.items()]
    made = [flattened(run.environment) for run in benchmark.runs if run.environment]
    for key in dict.fromkeys(key for environment in made for key in environment):
        told = [shown(environment.get(key)) for environment in made]
        rows.append((key, ", ".join(dict.fromkeys(told))))
    return rows


def _owner(key: str, variant: Variant) -> str:
    named = {"model": variant.model, "strategy": variant.strategy}
    return named.get(key.split(".")[0], variant.label)


def _curves(benchmark: Benchmark) -> dict[str, Figure]:
    """Side by side, whatever was run with the same strategy."""
    found = {}
    for strategy in dict.fromkeys(v.strategy for v in benchmark.variants):
        same = [v.curves for v in benchmark.variants if v.strategy == strategy]
        curves = [replace(c, label=figures.plain(c.label)) for c in same if c]
        for k in range(0, len(curves), 3):
            part = f" {k}" if k else ""
            figure = forgetting_curves(curves[k : k + 3])
            found[f"forgetting curves, {strategy}{part}"] = figure
    return found


def _matrices(benchmark: Benchmark) -> dict[str, Figure]:
    found = {}
    for variant in benchmark.variants:
        matrices, label = variant.matrices, figures.plain(variant.label)
        if matrices is not None:
            spread = matrices.std(0) if len(matrices) > 1 else None
            figure = score_matrix(matrices.mean(0), label, spread, benchmark.score)
            found[f"{benchmark.score.title} matrix of {variant.label}"] = figure
    return found
