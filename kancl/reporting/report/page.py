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
from kancl.reporting.curves import Curves
from kancl.reporting.figures import accuracy_matrix, forgetting_curves
from kancl.reporting.report import figures, tables
from kancl.reporting.report.confounds import Flag, flags
from kancl.reporting.report.tables import NOT_RECORDED, UNDEFINED, Sheet
from kancl.reporting.report.tuning import Tuning
from kancl.reporting.report.variants import Benchmark, Side, flattened, shown, unlike
from kancl.reporting.report.verdicts import Comparison, headline
from kancl.runs.reader import STATUSES, Run

TITLE = "Does the KAN forget less?"


@dataclass(frozen=True)
class Picture:
    svg: Markup
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """What the page shows of one benchmark."""

    anchor: str
    benchmark: Benchmark
    comparisons: Sequence[Comparison]
    headline: str
    kinds: int
    flags: Sequence[Flag]
    differences: Picture | None
    comparison: Sheet
    results: Sheet
    continual: Sheet | None
    cost: Sheet
    scatter: Picture | None
    curves: Sequence[Picture]
    matrices: Sequence[Picture]
    protocol: Sequence[tuple[str, str]]


def page(
    runs: Sequence[Run],
    compared: Sequence[tuple[Benchmark, Sequence[Comparison]]],
    tunings: Sequence[Tuning] = (),
) -> str:
    """The whole page. Every word that comes from a file is escaped."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]
    files = resources.files("kancl.reporting.report")
    template = environment.from_string((files / "page.html").read_text())
    counts = Counter(run.status for run in runs)
    told = ", ".join(f"{counts[s]} {s}" for s in STATUSES if counts[s])
    return template.render(
        title=TITLE,
        lead=_lead(compared, len(runs)),
        style=Markup((files / "style.css").read_text()),
        sections=[
            section(b, c, f"benchmark-{k}", tunings)
            for k, (b, c) in enumerate(compared)
        ],
        counts=f"{len(runs)} runs: {told}.",
        lost=[run for run in runs if not run.completed],
        all_runs=runs,
        absent=(NOT_RECORDED, UNDEFINED),
        version=kancl.__version__,
    )


def section(
    benchmark: Benchmark,
    comparisons: Sequence[Comparison],
    anchor: str,
    tunings: Sequence[Tuning] = (),
) -> Section:
    scatter = figures.stability_plasticity(benchmark)
    title = benchmark.title
    return Section(
        anchor,
        benchmark,
        comparisons,
        headline(comparisons),
        len({c.title for c in comparisons}),
        flags(benchmark, comparisons, tunings),
        (
            _picture(
                figures.differences(comparisons),
                f"{title}: KAN minus MLP",
                "Mean difference with its 95 % t-interval; ticks are seeds. Filled: "
                "shown after correction; hollow: not shown.",
            )
            if comparisons
            else None
        ),
        tables.comparison(benchmark, comparisons),
        tables.results(benchmark),
        tables.continual(benchmark),
        tables.cost(benchmark),
        (
            _picture(
                scatter,
                f"{title}: forgetting against learning accuracy",
                "Small: seeds; large: means with 95 % t-intervals both ways. Upper "
                "right is where to be; upper left has forgotten little because it "
                "learned little.",
            )
            if scatter
            else None
        ),
        list(_curves(benchmark)),
        list(_matrices(benchmark)),
        protocol(benchmark),
    )


def protocol(benchmark: Benchmark) -> list[tuple[str, str]]:
    """What was done, on one card; where sides differ, each value with its sides."""
    rows = [(f"scenario.{key}", shown(v)) for key, v in benchmark.options.items()]
    settings = [side.settings for side in benchmark.sides]
    differing = set(unlike(settings))
    for key in dict.fromkeys(key for s in settings for key in s):
        if key.endswith(".name") or key == "match_to.name":
            continue
        if key not in differing:
            rows.append((key, shown(settings[0].get(key))))
            continue
        values: dict[str, list[str]] = {}
        for side, given in zip(benchmark.sides, settings):
            if key in given:
                values.setdefault(shown(given[key]), []).append(_owner(key, side))
        told = [f"{v} ({', '.join(dict.fromkeys(o))})" for v, o in values.items()]
        rows.append((key, told[0] if len(told) == 1 else "; ".join(told)))
    for side in benchmark.sides:
        hidden = side.example.summary.get("hidden")
        if hidden:
            rows.append((f"hidden widths, {side.label}", shown(hidden)))
    seeds = {side.label: ", ".join(map(str, side.seeds)) for side in benchmark.sides}
    if len(set(seeds.values())) == 1:
        rows.append(("seeds", next(iter(seeds.values()))))
    else:
        rows.extend((f"seeds, {label}", text) for label, text in seeds.items())
    return rows + _versions(benchmark)


def _owner(key: str, side: Side) -> str:
    group = key.split(".")[0]
    return {"model": side.model, "strategy": side.strategy}.get(group, side.label)


def _versions(benchmark: Benchmark) -> list[tuple[str, str]]:
    told = [flattened(run.environment) for run in benchmark.runs if run.environment]
    keys = dict.fromkeys(key for environment in told for key in environment)
    rows = []
    for key in keys:
        values = dict.fromkeys(shown(environment.get(key)) for environment in told)
        rows.append((key, ", ".join(values)))
    return rows


def _curves(benchmark: Benchmark) -> list[Picture]:
    """Side by side, whatever was run with the same strategy."""
    by_strategy: dict[str, list[Side]] = {}
    for side in benchmark.sides:
        by_strategy.setdefault(side.strategy, []).append(side)
    pictures = []
    for strategy, sides in by_strategy.items():
        curves = [side.curves for side in sides]
        measured = [_plain(c) for c in curves if c is not None]
        for k in range(0, len(measured), 3):
            figure = forgetting_curves(measured[k : k + 3])
            title = f"{benchmark.title}: forgetting curves, {strategy}"
            pictures.append(_picture(figure, f"{title} {k}".removesuffix(" 0")))
    return pictures


def _plain(curves: Curves) -> Curves:
    return replace(curves, label=figures.plain(curves.label))


def _matrices(benchmark: Benchmark) -> list[Picture]:
    pictures = []
    for side in benchmark.sides:
        if side.matrices is None:
            continue
        mean = side.matrices.mean(0)
        spread = side.matrices.std(0) if len(side.matrices) > 1 else None
        figure = accuracy_matrix(mean, figures.plain(side.label), spread)
        title = f"{benchmark.title}: accuracy matrix of {side.label}"
        pictures.append(_picture(figure, title))
    return pictures


def _picture(figure: Figure, title: str, caption: str = "") -> Picture:
    return Picture(Markup(figures.svg(figure, title)), caption)


def _lead(
    compared: Sequence[tuple[Benchmark, Sequence[Comparison]]], n_runs: int
) -> str:
    strategies = {side.strategy for b, _ in compared for side in b.sides}
    return (
        f"{n_runs} runs, {len(compared)} benchmark{'s' * (len(compared) != 1)}, "
        f"{len(strategies)} strateg{'ies' if len(strategies) != 1 else 'y'}. "
        "Differences are KAN minus MLP, paired over seeds, in percentage points, with "
        "95 % intervals. Forgetting is to be read beside learning accuracy: what learns "
        "nothing forgets nothing."
    )
