"""Write the report: one page, its tables, and TensorBoard runs over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kancl.reporting.report import tables
from kancl.reporting.report.page import page
from kancl.reporting.report.tables import Compared
from kancl.reporting.report.tensorboard import write_over_seeds
from kancl.reporting.report.tuning import Tuning
from kancl.reporting.report.variants import benchmarks
from kancl.reporting.report.verdicts import compare
from kancl.runs.reader import Run


@dataclass(frozen=True)
class Report:
    """What was written, and what it says.

    Args:
        page: the HTML file.
        tensorboard: runs over seeds.
    """

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
    for name, made in to_read.items():
        parts = [table for table in made if table is not None]
        if parts:
            (folder / f"{name}.md").write_text("\n".join(p.markdown() for p in parts))
            (folder / f"{name}.tex").write_text("\n".join(p.latex() for p in parts))
    (folder / "results.csv").write_text(tables.all_results(groups).csv())
    (folder / "comparison.csv").write_text(tables.all_comparisons(compared).csv())
    (folder / "runs.csv").write_text(tables.all_runs(groups).csv())
    written = folder / "report.html"
    written.write_text(page(runs, compared, tunings))
    over_seeds = write_over_seeds(folder / "tensorboard", groups)
    return Report(written, over_seeds, runs, compared)
