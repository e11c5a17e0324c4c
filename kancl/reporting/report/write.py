"""The report as files: a page, its tables, and TensorBoard runs over seeds."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

import kancl
from kancl.config.files import flat
from kancl.reporting.curves import Band, Curves, Line
from kancl.reporting.figures import forgetting_curves
from kancl.reporting.report import figures, tables
from kancl.reporting.report.confounds import confounds
from kancl.reporting.report.tables import Compared
from kancl.reporting.tensorboard import EventWriter, write_picture
from kancl.reporting.variants import (
    Benchmark,
    Tuning,
    Variant,
    benchmarks,
    shown,
    unlike,
)
from kancl.reporting.verdicts import compare, headline
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
    """What was written, and what it says; ``tensorboard``: folders of runs over seeds."""

    page: Path
    tensorboard: Sequence[Path]
    runs: Sequence[Run]
    compared: Compared


def write_report(
    runs: Sequence[Run], folder: Path | str, tunings: Sequence[Tuning] = ()
) -> Report:
    """Write ``report.html``, which needs nothing else, its tables and TensorBoard runs.

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
        "report.html": page(runs, compared, tunings),
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
        written = write_over_seeds(new / TENSORBOARD, groups)
    over_seeds = [folder / path.relative_to(new) for path in written]
    return Report(folder / "report.html", over_seeds, runs, compared)


def page(runs: Sequence[Run], judged: Compared, tunings: Sequence[Tuning] = ()) -> str:
    """The whole page. Every word that comes from a file is escaped."""
    strict = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    files = resources.files("kancl.reporting.report")
    template = strict.from_string((files / "page.html").read_text())
    counts = Counter(run.status for run in runs)
    return template.render(
        style=Markup((files / "style.css").read_text()),
        compared=judged,
        tunings=tunings,
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


def write_over_seeds(
    folder: Path | str, benchmarks: Sequence[Benchmark], *, pictures: bool = True
) -> list[Path]:
    """Write TensorBoard runs of every benchmark on which several seeds have curves: means
    with their bands, which TensorBoard does not make itself.

    The custom-scalars tab shows a chart per benchmark, model and strategy, a band per
    experience, and one with the mean over the experiences seen of every variant. Experience
    k of a benchmark is one run: TensorBoard colours by run and selects 40 at most.

    Returns: the benchmarks' folders.
    """
    folder, written = Path(folder), list[Path]()
    for benchmark in benchmarks:
        pairs = [(variant, variant.curves) for variant in benchmark.variants]
        if several := [(v, c) for v, c in pairs if c and c.n_seeds > 1]:
            written.append(folder / benchmark.slug)
            _write(written[-1], benchmark, several, pictures)
    return written


def _write(
    folder: Path,
    benchmark: Benchmark,
    variants: Sequence[tuple[Variant, Curves]],
    pictures: bool,
) -> None:
    score = benchmark.score
    seen = f"{score.name}_on_seen"

    def tags(what: str) -> list[str]:
        """Tags in the order that a chart with a margin wants: value, lower, upper."""
        tag = f"over_seeds/{benchmark.slug}/{file_name(what)}"
        return [f"{tag}/{end}" for end in ("mean", "low", "high")]

    def write_band(writer: EventWriter, what: str, line: Line, band: Band) -> None:
        for (iteration, *mean), (_, *ends) in zip(line, band):
            for tag, number in zip(tags(what), [*mean, *ends]):
                writer.add_scalar(tag, number, iteration)

    for k in range(max(curves.n_experiences for _, curves in variants)):
        with EventWriter(folder / f"experience_{k + 1}") as writer:
            for variant, curves in variants:
                write_band(writer, variant.label, curves.points[k], curves.bands[k])
    for variant, curves in variants:
        with EventWriter(folder / file_name(variant.label)) as writer:
            write_band(writer, seen, curves.seen(), curves.seen_band)
            if pictures:
                labelled = [replace(curves, label=figures.plain(variant.label))]
                drawn = {"forgetting_curves": forgetting_curves(labelled)}
                if variant.matrices is not None:
                    drawn[f"{score.name}_matrix"] = figures.mean_matrix(variant)
                for name, figure in drawn.items():
                    tag = f"over_seeds/picture/{name}"
                    write_picture(writer, tag, figure, curves.last_iteration)
    strategies = list(dict.fromkeys(variant.strategy for variant, _ in variants))
    ordered = [v.label for s in strategies for v, _ in variants if v.strategy == s]
    charts = {f"{score.title} on the experiences seen": seen}
    charts |= {label: label for label in reversed(ordered)}  # shown last first
    margins = {name: ["Margin", tags(what)] for name, what in charts.items()}
    title = f"{benchmark.title}: mean over seeds, 95 % band"
    with EventWriter(folder) as writer:
        writer.add_custom_scalars({title: margins})


def file_name(label: str) -> str:
    """A label as the name of one folder, whatever stands in it."""
    return re.sub(r"[^A-Za-z0-9._=+-]+", "_", label).strip("._") or "variant"
