"""Tables of runs: one run, several runs side by side, and KAN minus MLP."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from kancl.metrics.statistics import Difference, paired_difference

Summary = Mapping[str, Any]
"""What ``summary.json`` holds."""


@dataclass(frozen=True)
class Column:
    """One column of the comparison.

    Args:
        key: in the summary.
        compared: whether KAN - MLP is a difference of it worth reading.
    """

    key: str
    title: str
    show: Callable[[float], str]
    compared: bool = False


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _small(value: float) -> str:
    return f"{value:.2g}"


def count(value: float) -> str:
    return f"{value:,.0f}"


def seconds(value: float) -> str:
    return f"{value:,.1f}"


def prefixed(value: float) -> str:
    """Three digits and a prefix: 264,768 is 265 k."""
    for power, prefix in ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if value >= 10**power:
            return f"{value / 10**power:.3g} {prefix}"
    return f"{value:.3g}"


def size(n_bytes: float) -> str:
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if n_bytes >= 2**power:
            return f"{n_bytes / 2**power:.1f} {unit}"
    return f"{n_bytes:.0f} B"


COLUMNS = (
    Column("average_accuracy", "average\naccuracy %", _percent, compared=True),
    Column("learning_accuracy", "learning\naccuracy %", _percent, compared=True),
    Column("forgetting", "forgetting\n%", _percent, compared=True),
    Column("backward_transfer", "backward\ntransfer %", _percent, compared=True),
    Column("average_rmse", "average\nRMSE", _small, compared=True),
    Column("learning_rmse", "learning\nRMSE", _small, compared=True),
    Column("old_peak_rmse_increase", "old peaks'\nincrease", _small, compared=True),
    Column("n_parameters", "parameters", count),
    Column("n_active_parameters", "active\nper sample", count),
    Column("flops", "FLOPs per\nsample", count),
    Column("training_flops", "training\nFLOPs", prefixed),
    Column("train_seconds", "training\nseconds", seconds),
    Column("iterations_per_second", "iterations\n/ second", count),
    Column("peak_memory_bytes", "peak\nmemory", size),
    Column("strategy_bytes", "held by\nstrategy", size),
)
N_METRICS = 7  # the first of them; the others are what it cost
UNDEFINED = "n/a"


def run_table(summary: Summary) -> Table:
    """One run: its metrics, what it cost, and why a metric is missing."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_row("status", _status(summary["status"]))
    for column in COLUMNS:
        if column.key in summary:
            title = column.title.replace("\n", " ")
            table.add_row(title, _cell(summary, column))
    return table


def comparison_table(
    summaries: Sequence[Summary], columns: Sequence[Column] = COLUMNS
) -> Table:
    """Runs grouped by model and strategy (mean over seeds), then KAN - MLP."""
    titles, groups, differences = _comparison(summaries, columns)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    n_words = len(titles) - len(_used(summaries, columns))
    for k, title in enumerate(titles):
        table.add_column(
            title, justify="left" if k < n_words else "right", no_wrap=True
        )
    for row in groups:
        table.add_row(*row)
    if differences:
        table.add_section()
    for row in differences:
        table.add_row(*row, style="bold")
    return table


def comparison_markdown(summaries: Sequence[Summary]) -> str:
    """The same as a Markdown table with its notes below."""
    titles, groups, differences = _comparison(summaries, COLUMNS)
    n_numbers = len(_used(summaries, COLUMNS))
    rows = [[title.replace("\n", " ") for title in titles]]
    rows.append(["---"] * (len(titles) - n_numbers) + ["---:"] * n_numbers)
    rows += groups
    rows += [[f"**{cell}**" if cell else "" for cell in row] for row in differences]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", *(f"- {note}" for note in _notes(summaries))]) + "\n"


def show_comparison(
    summaries: Sequence[Summary], console: Console | None = None
) -> None:
    """Print the comparison and its notes; in a narrow terminal as several tables, what
    was learned and what it cost.
    """
    console = fitting_console(console)
    if _fits(console, summaries, COLUMNS):
        console.print(comparison_table(summaries))
    else:
        blocks = [list(COLUMNS[:N_METRICS]), []]
        for column in _used(summaries, COLUMNS[N_METRICS:]):
            if not _fits(console, summaries, [*blocks[-1], column]):
                blocks.append([])
            blocks[-1].append(column)
        for columns in filter(None, blocks):
            console.print(comparison_table(summaries, columns))
    for note in _notes(summaries):
        console.print(note, style="dim", highlight=False)


def _fits(
    console: Console, summaries: Sequence[Summary], columns: Sequence[Column]
) -> bool:
    unbounded = console.options.update(max_width=10_000)
    table = comparison_table(summaries, columns)
    return Measurement.get(console, unbounded, table).maximum <= console.width


def show_run(summary: Summary, console: Console | None = None) -> None:
    """Print the table of one run."""
    fitting_console(console).print(run_table(summary))


def fitting_console(console: Console | None) -> Console:
    """A console that cuts nothing off where the output is no terminal."""
    console = console or Console()
    if console.is_terminal:
        return console
    return Console(file=console.file, width=200, no_color=True, highlight=False)


def _used(summaries: Sequence[Summary], columns: Sequence[Column]) -> list[Column]:
    return [c for c in columns if any(c.key in s for s in summaries)]


def _comparison(
    summaries: Sequence[Summary], columns: Sequence[Column]
) -> tuple[list[str], list[list[str]], list[list[str]]]:
    """Titles, a row per model and strategy, a row per difference."""
    if not summaries:
        raise ValueError("no runs to compare")
    columns = _used(summaries, columns)
    groups: dict[tuple[str, ...], list[Summary]] = {}
    for s in summaries:
        groups.setdefault(_group(s), []).append(s)
    scenarios = {scenario for scenario, _, _ in groups}
    shown = slice(None) if len(scenarios) > 1 else slice(1, None)
    titles = ["scenario", "model", "strategy"][shown] + ["runs"]
    titles += [c.title for c in columns]
    rows = []
    for group, runs in groups.items():
        done = [s for s in runs if s["status"] == "completed"]
        n = str(len(runs)) if len(done) == len(runs) else f"{len(done)} of {len(runs)}"
        cells = [_mean_cell(done, column) for column in columns]
        rows.append([*group[shown], n, *cells])
    differences = []
    for scenario, kan, mlp, strategy in _pairs(groups):
        a, b = groups[scenario, kan, strategy], groups[scenario, mlp, strategy]
        found = [_difference(a, b, c) if c.compared else None for c in columns]
        n_pairs = len(_by_seed(a, "seed").keys() & _by_seed(b, "seed").keys())
        if n_pairs and any(c.compared for c in columns):
            cells = [
                _difference_cell(d, c) if c.compared else ""
                for d, c in zip(found, columns)
            ]
            name = f"{model_title(kan)} - {model_title(mlp)}"
            group = (scenario, name, strategy)
            differences.append([*group[shown], str(n_pairs), *cells])
    return titles, rows, differences


def _group(summary: Summary) -> tuple[str, str, str]:
    return summary["scenario"], summary["model"], summary["strategy"]


def _pairs(groups: Mapping[tuple[str, ...], Any]) -> list[tuple[str, str, str, str]]:
    """(scenario, KAN, MLP, strategy) wherever both were run."""
    return [
        (scenario, kan, mlp, strategy)
        for scenario, kan, strategy in groups
        for other, mlp, same in groups
        if kan.startswith("kan") and mlp.startswith("mlp")
        if (other, same) == (scenario, strategy)
    ]


def model_title(model: str) -> str:
    """``KAN`` for ``kan``; longer names as they are typed."""
    return {"kan": "KAN", "mlp": "MLP"}.get(model, model)


def _by_seed(runs: Sequence[Summary], key: str) -> dict[Any, float]:
    """A metric of the completed runs by seed; empty if a seed has several runs, since
    then nobody knows which of them is to be paired.
    """
    done = [s for s in runs if s["status"] == "completed"]
    if len({s["seed"] for s in done}) < len(done):
        return {}
    return {s["seed"]: s[key] for s in done if s.get(key) is not None}


def _difference(
    a: Sequence[Summary], b: Sequence[Summary], column: Column
) -> Difference | None:
    return paired_difference(_by_seed(a, column.key), _by_seed(b, column.key))


def _difference_cell(difference: Difference | None, column: Column) -> str:
    if difference is None:
        return UNDEFINED
    text = column.show(difference.mean)
    text = text if text.startswith("-") else f"+{text}"
    if difference.half_width is not None:
        text += f" ± {column.show(difference.half_width)}"
    return text


def _mean_cell(runs: Sequence[Summary], column: Column) -> str:
    values = [s[column.key] for s in runs if s.get(column.key) is not None]
    return column.show(mean(values)) if values else UNDEFINED


def _cell(summary: Summary, column: Column) -> str:
    if summary.get(column.key) is not None:
        return column.show(summary[column.key])
    reason = summary.get("undefined", {}).get(column.key)
    return f"{UNDEFINED} ({reason})" if reason else UNDEFINED


def _status(status: str) -> Text:
    return Text(status, style="green" if status == "completed" else "bold red")


def _notes(summaries: Sequence[Summary]) -> list[str]:
    """What a reader has to know before believing the numbers."""
    notes = []
    groups: dict[tuple[str, ...], list[Summary]] = {}
    for s in summaries:
        groups.setdefault(_group(s), []).append(s)
    n_pairs = []
    for scenario, kan, mlp, strategy in _pairs(groups):
        a, b = groups[scenario, kan, strategy], groups[scenario, mlp, strategy]
        n_pairs.append(len(_by_seed(a, "seed").keys() & _by_seed(b, "seed").keys()))
    if any(n > 1 for n in n_pairs):
        notes.append("±: 95 % t-interval of the difference, paired over seeds.")
    if 1 in n_pairs:
        notes.append(
            "A difference of one seed has no error bar: it may be chance. Several "
            "seeds: -m seed=range(10)."
        )
    for group, runs in groups.items():
        if not _by_seed(runs, "seed") and any(s["status"] == "completed" for s in runs):
            notes.append(
                f"{'-'.join(group[1:])}: several runs of one seed, so not paired."
            )
    for status in ["diverged", "failed"]:
        bad = [s for s in summaries if s["status"] == status]
        if bad:
            names = [f"{s['model']}-{s['strategy']} seed {s['seed']}" for s in bad]
            notes.append(f"{len(bad)} {status}, not in the means: {', '.join(names)}.")
    return notes + _reasons(summaries)


def _reasons(summaries: Sequence[Summary]) -> list[str]:
    """Why metrics of completed runs are undefined, each reason once."""
    keys = {column.key: column.title.split("%")[0] for column in COLUMNS}
    reasons: dict[str, dict[str, None]] = {}
    for s in summaries:
        for key, reason in s.get("undefined", {}).items():
            if s["status"] == "completed" and key in keys:
                reasons.setdefault(reason, {})[" ".join(keys[key].split())] = None
    return [f"{UNDEFINED} {', '.join(names)}: {why}." for why, names in reasons.items()]
