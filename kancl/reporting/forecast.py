"""What was foretold before each training, and what happened: a line, a table, a figure."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from kancl.metrics.forecast import RANKED_BY, Pairs, judge
from kancl.metrics.locality import falls
from kancl.reporting.colours import FAINT, INK, experience_colour
from kancl.reporting.figures import label_axes, new_figure
from kancl.reporting.table import Cell, Column, Table

TITLES = {
    "overlap": "overlap of features, the control",
    "kernel": "kernel, nothing trained",
    "probe": "probe, 0.3 of the training",
    "stored": "probe without old images",
    "ceiling": "second training, the ceiling",
}
METRICS = {
    "rho": "rank correlation",
    "partial_rho": "given accuracy before",
    "shuffled_rho": "shuffled",
}
show = "{:+.2f}".format

Foretold = Mapping[str, Pairs]
"""Forecasts by kind."""


def forecast_line(foretold: Foretold, matrix: Tensor) -> str:
    """How well each kind ranked the accuracies lost; empty without any forecast."""
    judged = judge(foretold, matrix)
    rhos = {kind: judged[f"forecast_{kind}_rho"] for kind in foretold}
    known = [f"{kind} {show(rho)}" for kind, rho in rhos.items() if rho is not None]
    if not foretold:
        return ""
    if not known:
        return f"forecast: {next(iter(judged['undefined'].values()))}"
    n = max(map(len, foretold.values()))
    said = f"forecast of accuracy lost, rank correlation over {n} pairs of experiences"
    return f"{said}: {', '.join(known)}"


def forecast_table(
    foretold: Foretold, matrix: Tensor, costs: Mapping[str, float]
) -> Table:
    """A row per kind.

    Args:
        costs: the time that each kind took, as a share of the training's, if known.
    """
    judged = judge(foretold, matrix)
    top = judged.get("forecast_ceiling_rho")
    rows: list[list[Cell]] = []
    for kind, pairs in foretold.items():
        rho, *others = (judged[f"forecast_{kind}_{metric}"] for metric in METRICS)
        share = rho / top if rho is not None and top is not None and top > 0 else None
        rows.append([TITLES[kind], len(pairs), rho, share, *others, costs.get(kind)])
    rho, *others = (Column(title, show) for title in METRICS.values())
    columns = [Column("forecast"), Column("pairs", str), rho]
    columns += [Column("of the ceiling", "{:.2f}".format), *others]
    columns += [Column("time / training", "{:.2f}".format)]
    reasons = dict.fromkeys(judged["undefined"].values())
    notes = [f"{reason[0].upper()}{reason[1:]}." for reason in reasons]
    notes.append(
        "Of what each training took from earlier experiences' test sets; foretold on "
        "their training images. Overlap is the control: in kancl's studies, more of it "
        "did not mean more loss (mean rank correlations of -.66 to +.18, docs/results)."
    )
    title = "What was foretold before each training?"
    return Table(title, columns, rows, notes=notes)


def forecast_figure(foretold: Foretold, matrix: Tensor) -> Figure:
    """The accuracy lost by what was foretold: a panel per kind, a point per pair in the
    colour of the experience that was trained. Dashed where the two are equal.
    """
    lost, judged = falls(matrix), judge(foretold, matrix)
    figure, (panels,) = new_figure(
        1 + 2.7 * len(foretold), 3, len(foretold), sharey=True
    )
    for axes, (kind, pairs) in zip(panels, foretold.items()):
        for new in sorted({new for _, new in pairs}):
            points = [
                (v, lost[p]) for p, v in pairs.items() if p[1] == new and p in lost
            ]
            label = f"by experience {new + 1}"
            style: Any = {"s": 22, "color": experience_colour(new), "label": label}
            axes.scatter(*zip(*points), **style)
        if RANKED_BY[kind] == "accuracy":
            ends = [min(lost.values()), max(lost.values())]
            axes.plot(
                ends, ends, color=FAINT, linestyle="dashed", linewidth=1, zorder=0
            )
        rho = judged[f"forecast_{kind}_rho"]
        title = f"{kind}: rank correlation {'n/a' if rho is None else show(rho)}"
        what = f"{RANKED_BY[kind].replace('_', ' ')}{' lost' * (kind != 'overlap')}"
        label_axes(axes, f"foretold: {what}", title=title, size=8)
    panels[0].set_ylabel("accuracy lost, test sets", fontsize=8, color=INK)
    panels[-1].legend(fontsize=7, frameon=False)
    return figure
