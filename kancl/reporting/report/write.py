"""The report as files: a page, its tables, and TensorBoard runs over seeds."""

from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

import kancl
from kancl.config.files import flat
from kancl.reporting.groups import write_groups
from kancl.reporting.report import figures, tables
from kancl.reporting.report.confounds import confounds
from kancl.reporting.report.tables import Compared
from kancl.reporting.variants import Benchmark, Tuning, benchmarks, shown, unlike
from kancl.reporting.verdicts import Comparison, compare, headline
from kancl.runs.files import write_whole
from kancl.runs.names import EVENTS
from kancl.runs.reader import STATUSES, Run
from kancl.runs.replacement import replacing

TENSORBOARD = "tensorboard"
_TABLES = ("results", "comparison", "continual", "forecast", "cost")
FILES = (
    *("report.html", "runs.csv", "results.csv", "comparison.csv"),
    *(f"{name}.{kind}" for name in _TABLES for kind in ("md", "tex")),
    f"{TENSORBOARD}/*{EVENTS}",
)
"""Patterns of what a report consists of; the next one deletes what it does not replace."""


class Report(NamedTuple):
    """What was written, and what it says; ``tensorboard``: folders of the means over seeds."""

    page: Path
    tensorboard: Sequence[Path]
    runs: Sequence[Run]
    compared: Compared


def write_report(
    runs: Sequence[Run],
    folder: Path | str,
    tunings: Sequence[Tuning] = (),
    *,
    asked: Sequence[str] = (),
    boards: bool = True,
) -> Report:
    """Write ``report.html``, which needs nothing else, its tables and TensorBoard runs.

    Args:
        asked: what these runs are, as was typed.
        boards: write the TensorBoard runs, too.
    Raises: ValueError without any run; WriteError.
    """
    if not runs:
        raise ValueError("no runs to report on")
    folder = Path(folder)
    groups = benchmarks(runs)
    compared = [(benchmark, compare(benchmark)) for benchmark in groups]
    files = {
        "results.csv": tables.all_results(groups).csv(),
        "comparison.csv": tables.all_comparisons(compared).csv(),
        "runs.csv": tables.all_runs(groups).csv(),
        "report.html": page(runs, compared, tunings, asked),
    }
    for name, made in {
        "results": map(tables.results, groups),
        "comparison": (tables.comparison(b, c) for b, c in compared if c),
        "continual": map(tables.continual, groups),
        "forecast": map(tables.forecast, groups),
        "cost": map(tables.cost, groups),
    }.items():
        if parts := [table for table in made if table is not None]:
            files[f"{name}.md"] = "\n".join(table.markdown() for table in parts)
            files[f"{name}.tex"] = "\n".join(table.latex() for table in parts)
    with replacing(folder, *FILES) as new:
        for name, text in files.items():
            write_whole(new / name, text.encode())
        written = (
            write_groups(new / TENSORBOARD, [g.main for g in groups]) if boards else []
        )
    means = [folder / path.relative_to(new) for path in written]
    return Report(folder / "report.html", means, runs, compared)


def page(
    runs: Sequence[Run],
    judged: Compared,
    tunings: Sequence[Tuning] = (),
    asked: Sequence[str] = (),
) -> str:
    """The whole page. Every word that comes from a file is escaped."""
    strict = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    files = resources.files("kancl.reporting.report")
    template = strict.from_string((files / "page.html").read_text())
    counts = Counter(run.status for run in runs)
    return template.render(
        style=Markup((files / "style.css").read_text()),
        compared=judged,
        tunings=tunings,
        asked=asked,
        parts=parts,
        strategies={v.strategy for b, _ in judged for v in b.variants},
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


class Part(NamedTuple):
    """Settings of a benchmark that are shown together, and what is said of them."""

    title: str  # of the fold that it lies in; "" lies open
    benchmark: Benchmark
    comparisons: Sequence[Comparison]


def parts(benchmark: Benchmark, comparisons: Sequence[Comparison]) -> list[Part]:
    """What was asked for, then, folded away, settings that were tried on fewer seeds."""
    trials = {variant.label for variant in benchmark.trials.variants}
    of_trials = [c for c in comparisons if trials & {v.label for v in c.both}]
    others = [c for c in comparisons if all(c is not other for other in of_trials)]
    shown = [Part("", benchmark.main, others)]
    if trials:
        words = f"{len(trials)} other setting{'s' * (len(trials) > 1)}"
        title = f"Trials: {words}, on fewer seeds"
        shown.append(Part(title, benchmark.trials, of_trials))
    return shown


def protocol(benchmark: Benchmark) -> list[tuple[str, str]]:
    """What was done, on one card; where variants differ, each value with its owners."""
    variants = benchmark.variants
    options = benchmark.options.items()
    rows = [(f"scenario.{key}", shown(v)) for key, v in options if v is not None]
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
        if not key.endswith(".name") and [*values] != ["null"]:
            rows.append((key, "; ".join(owned if key in differing else values)))
    hidden = {v.label: v.example.summary.get("hidden") for v in variants}
    rows += [(f"hidden widths, {k}", shown(n)) for k, n in hidden.items() if n]
    seeds = {f"seeds, {v.label}": ", ".join(map(str, v.seeds)) for v in variants}
    if len({*seeds.values()}) == 1:
        seeds = {"seeds": seeds[f"seeds, {variants[0].label}"]}
    rows += seeds.items()
    made = [flat(run.environment) for run in benchmark.runs if run.environment]
    for key in dict.fromkeys(key for environment in made for key in environment):
        versions = (shown(environment.get(key)) for environment in made)
        rows.append((key, ", ".join(dict.fromkeys(versions))))
    return rows
