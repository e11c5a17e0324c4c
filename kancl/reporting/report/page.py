"""The report: one HTML file that needs nothing else (no network, no script), its tables,
and TensorBoard runs over seeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

import kancl
from kancl.reporting.report import figures, tables
from kancl.reporting.report.confounds import confounds
from kancl.reporting.report.tables import Compared
from kancl.reporting.report.tensorboard import write_over_seeds
from kancl.reporting.report.tuning import Tuning
from kancl.reporting.report.variants import (
    Benchmark,
    benchmarks,
    flattened,
    shown,
    unlike,
)
from kancl.reporting.report.verdicts import compare, headline
from kancl.runs.reader import STATUSES, Run


class Report(NamedTuple):
    """What was written, and what it says; ``tensorboard``: folders of runs over seeds."""

    page: Path
    tensorboard: Sequence[Path]
    runs: Sequence[Run]
    compared: Compared


def write_report(
    runs: Sequence[Run], folder: Path | str, tunings: Sequence[Tuning] = ()
) -> Report:
    """Write ``report.html``, its tables and TensorBoard runs over seeds into a folder.

    Raises: ValueError without any run.
    """
    if not runs:
        raise ValueError("no runs to report on")
    folder = Path(folder)
    groups = benchmarks(runs)
    compared = [(benchmark, compare(benchmark)) for benchmark in groups]
    folder.mkdir(parents=True, exist_ok=True)
    to_read = {
        "results": map(tables.results, groups),
        "comparison": (tables.comparison(b, c) for b, c in compared if c),
        "continual": map(tables.continual, groups),
        "cost": map(tables.cost, groups),
    }
    unrounded = {
        "results": tables.all_results(groups),
        "comparison": tables.all_comparisons(compared),
        "runs": tables.all_runs(groups),
    }
    for name, made in to_read.items():
        parts = [table for table in made if table is not None]
        if parts:
            (folder / f"{name}.md").write_text("\n".join(p.markdown() for p in parts))
            (folder / f"{name}.tex").write_text("\n".join(p.latex() for p in parts))
    for name, table in unrounded.items():
        (folder / f"{name}.csv").write_text(table.csv())
    written = folder / "report.html"
    written.write_text(page(runs, compared, tunings))
    over_seeds = write_over_seeds(folder / "tensorboard", groups)
    return Report(written, over_seeds, runs, compared)


def page(
    runs: Sequence[Run], compared: Compared, tunings: Sequence[Tuning] = ()
) -> str:
    """The whole page. Every word that comes from a file is escaped."""
    strict = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    files = resources.files("kancl.reporting.report")
    template = strict.from_string((files / "page.html").read_text())
    counts = Counter(run.status for run in runs)
    return template.render(
        style=Markup((files / "style.css").read_text()),
        compared=compared,
        tunings=tunings,
        strategies={v.strategy for b, _ in compared for v in b.variants},
        counts=[f"{counts[status]} {status}" for status in STATUSES if counts[status]],
        lost=[run for run in runs if not run.completed],
        all_runs=runs,
        tables=tables,
        figures=figures,
        confounds=confounds,
        headline=headline,
        protocol=protocol,
        version=kancl.__version__,
    )


def protocol(benchmark: Benchmark) -> list[tuple[str, str]]:
    """What was done, on one card; where variants differ, each value with its owners."""
    variants = benchmark.variants
    rows = [(f"scenario.{key}", shown(v)) for key, v in benchmark.options.items()]
    settings = [variant.settings for variant in variants]
    differing = unlike(settings)
    for key in dict.fromkeys(key for s in settings for key in s):
        values: dict[str, dict[str, None]] = {}
        for variant, given in zip(variants, settings):
            if key in given:
                named = {"model": variant.model, "strategy": variant.strategy}
                owner = named.get(key.split(".")[0], variant.label)
                values.setdefault(shown(given[key]), {})[owner] = None
        owned = [f"{value} ({', '.join(owners)})" for value, owners in values.items()]
        if not key.endswith(".name"):
            rows.append((key, "; ".join(owned if key in differing else values)))
    for variant in variants:
        if hidden := variant.example.summary.get("hidden"):
            rows.append((f"hidden widths, {variant.label}", shown(hidden)))
    seeds = {f"seeds, {v.label}": ", ".join(map(str, v.seeds)) for v in variants}
    if len({*seeds.values()}) == 1:
        seeds = {"seeds": seeds[f"seeds, {variants[0].label}"]}
    rows += seeds.items()
    made = [flattened(run.environment) for run in benchmark.runs if run.environment]
    for key in dict.fromkeys(key for environment in made for key in environment):
        versions = (shown(environment.get(key)) for environment in made)
        rows.append((key, ", ".join(dict.fromkeys(versions))))
    return rows
