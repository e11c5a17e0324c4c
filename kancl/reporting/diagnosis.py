"""What a run forgot, by what, foreseen or not: tables, sentences and figures."""

from collections.abc import Mapping, Sequence
from math import prod
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from kancl.metrics.diagnosis import Diagnosis, Forecast, Review, by_layer, forecasts
from kancl.metrics.locality import Occupancy, overlap_matrix
from kancl.reporting.colours import CELL_INK, FAINT, INK, experience_colour
from kancl.reporting.figures import CENTRED, label_axes, new_figure
from kancl.reporting.table import Cell, Column, Show, Table, rounded

WORTHLESS = 0.3
"""A rank correlation below this foretells next to nothing: its square is under 0.1."""
ROUNDING = 1e-6


def diagnosis_tables(diagnosis: Diagnosis) -> list[Table]:
    show = "{:.1%}".format if diagnosis.score.higher_is_better else rounded
    forecast = pooled_table([diagnosis])
    return [_forgotten(diagnosis, show), _carriers(diagnosis, show), forecast]


def pooled_table(diagnoses: Sequence[Diagnosis]) -> Table:
    judged = forecasts([(each.pairs, each.falls) for each in diagnoses])
    return forecast_table(judged, len(diagnoses))


def _forgotten(diagnosis: Diagnosis, show: Show) -> Table:
    matrix = diagnosis.matrix
    sign = 1 if diagnosis.score.higher_is_better else -1
    rows: list[list[Cell]] = []
    both = zip(matrix[1:].diag().tolist(), matrix[-1].tolist())
    for s, (then, now) in enumerate(both):
        taken = [(fall, t) for (old, t), fall in diagnosis.falls.items() if old == s]
        worst, t = max(taken, key=lambda pair: pair[0], default=(0.0, s))
        most = f"experience {t + 1} ({show(worst)})" if worst > 0 else ""
        rows.append([str(s + 1), then, now, sign * (then - now), most])
    numbers = [Column(title, show) for title in ("just trained", "at the end", "lost")]
    columns = [Column("experience", str), *numbers, Column("most to")]
    return Table(f"What {diagnosis.title} forgot", columns, rows)


def _carriers(diagnosis: Diagnosis, show: Show) -> Table:
    backs = [review.rollback for review in diagnosis.reviews if review.rollback]
    groups = list(backs[0].values)
    columns = [Column(in_words(group), show) for group in groups]
    rows: list[list[Cell]] = [
        [str(k), *back.values.values()] for k, back in enumerate(backs, start=1)
    ]
    notes = ["Nothing was forgotten: no group of parameters has to answer."]
    if lost := [back for back in backs if abs(back.forgotten) >= 0.005]:
        total = sum(back.forgotten for back in lost)
        shares = {
            group: sum(back.regained[group] - back.now for back in lost) / total
            for group in groups[1:-1]
        }
        best = in_words(max(shares, key=lambda group: shares[group]))
        notes = [
            f"One group alone, put back, brings back of what was forgotten: "
            f"{_percents(shares)}.",
            f"It sits in {best} more than anywhere else. (Groups overlap and act "
            "together: shares need not add up to 100 %.)",
        ]
        if diagnosis.inference:
            notes.append(f"At the end: {_percents(diagnosis.inference)}.")
        before = zip(backs, diagnosis.matrix[1:].diag().tolist())
        apart = max(abs(back.then - then) for back, then in before)
        if apart <= ROUNDING:
            how = "All put back: to rounding" if apart else "All put back: exactly"
            notes.append(f"{how} the values of then, for every experience.")
        moved = "no coefficient moved"
        if diagnosis.leak:
            moved = f"coefficients moved by up to {diagnosis.leak:.2g}"
        notes.append(f"Where no training sample was, in the first layer, {moved}.")
    title = f"{diagnosis.score.title} with one group of parameters put back"
    return Table(title, [Column("experience", str), *columns], rows, notes=notes)


def _percents(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{in_words(name)} {share:.0%}" for name, share in shares.items())


def forecast_table(judged: Sequence[Forecast], n_runs: int = 1) -> Table:
    """Whether overlap ranks what each training took: the median over views and layers."""
    known = {f: f.correlation for f in judged if f.correlation is not None}
    runs = "one run" if n_runs == 1 else f"{n_runs} runs"
    if not judged:
        notes = ["No overlap was measured in all of these runs."]
    elif not known:
        notes = [f"No rank correlation can be told over the pairs of {runs}."]
    else:
        middle = median(known.values())
        best = max(known, key=lambda forecast: known[forecast])
        verdict = (
            "did not foretell who would lose most: its rank correlations are near 0"
        )
        if middle >= WORTHLESS:
            verdict = "foretold some of it"
        elif middle <= -WORTHLESS:
            verdict = "foretold the contrary: where it was larger, less was lost"
        notes = [
            f"Overlap, known before each training, {verdict}.",
            f"Median of {len(known)} rank correlations with what that training took: "
            f"{middle:+.2f}, over {len(best.overlaps)} pairs of {runs}.",
            f"The best, picked with hindsight: {in_words(best.view)} "
            f"{in_words(best.layer)} {known[best]:+.2f}.",
            "In kancl's studies more overlap did not mean more forgetting (-.66 to +.18, "
            "docs/results); a short trial of the training foretells it: "
            "evaluation.forecast=probe.",
        ]
    none = "n/a (too few pairs, or all alike)"
    columns = [
        *(Column("overlap"), Column("layer"), Column("pairs", str)),
        Column("mean", "{:.2f}".format),
        Column("rank correlation", "{:+.2f}".format, absent=none),
    ]
    rows: list[list[Cell]] = []
    for f in judged:
        words = in_words(f.view), in_words(f.layer)
        rows.append([*words, len(f.overlaps), fmean(f.overlaps), f.correlation])
    over = f", over the pairs of {runs}" if n_runs > 1 else ""
    return Table(f"What did overlap foretell{over}?", columns, rows, notes=notes)


MOST_ROWS, MOST_COLUMNS = 10, 8
VIEWS = ("exposure", "bhattacharyya", "kernel_ratio")


def locality_figures(
    reviews: Sequence[Review], image_shape: tuple[int, ...], score: str = "accuracy"
) -> dict[str, Figure]:
    """The pictures by name; ``score``: what the rollbacks are measured by."""
    kinds = by_layer(reviews)
    used, figures = kinds.get("occupancy", {}), {}
    first = next(iter(used.values()), torch.empty(0, 0))
    if len(image_shape) == 3 and first.shape[1] == prod(image_shape):
        figures["occupancy"] = occupancy_maps(first, image_shape)
    if used:
        each = {n: [review.usages[n].occupancy for review in reviews] for n in used}
        figures["overlap"] = overlap_matrices(each)
    if "drift" in kinds:
        figures["drift_per_knot"] = drift_of_knots(kinds["drift"])
    if backs := [review.rollback.values for review in reviews if review.rollback]:
        figures["rollback"] = rollback_bars(backs, score)
    return figures


def occupancy_maps(means: Tensor, image_shape: tuple[int, ...]) -> Figure:
    """How much each experience uses each basis of each pixel, on one scale.

    A row per experience, a column per basis from the low end of the grid (some of many),
    of the first layer's means ``(n_experiences, in_features, n_basis)``;
    mean over channels.
    """
    rows = _some(len(means), MOST_ROWS)
    columns = _some(means[0].shape[1], MOST_COLUMNS)
    tiles = [[means[k][:, g].view(image_shape).mean(0) for g in columns] for k in rows]
    names = [f"experience {k + 1}" for k in rows], [f"basis {g + 1}" for g in columns]
    figure, axes, shown = _page(tiles, 2, 0.95, names, cmap="magma", vmin=0)
    bar = figure.colorbar(shown, ax=axes, fraction=0.03).ax
    bar.tick_params(labelsize=7, colors=INK)
    bar.set_title("mean\nactivation", fontsize=7, color=INK)
    return figure


def overlap_matrices(occupancies: Mapping[str, Sequence[Occupancy]]) -> Figure:
    """What experiences share, layer by layer and view by view, in percent.

    Row: old experience, column: new one; each measured just after its own training.
    """
    used = occupancies.values()
    tiles = [[overlap_matrix(each, view) for view in VIEWS] for each in used]
    names = [f"{in_words(layer)}:\nrow old,\ncolumn new" for layer in occupancies]
    titles = [f"{in_words(view)}, %" for view in VIEWS]
    pitch, scale = 0.3 * (len(tiles[0][0]) + 1), {"vmin": 0, "vmax": 1}
    figure, axes, shown = _page(tiles, 1, pitch, (names, titles), cmap="Blues", **scale)
    page = np.asarray(shown.get_array().filled(np.nan))
    for y, x in np.argwhere(~np.isnan(page)):
        ink = "white" if page[y, x] > 0.6 else CELL_INK
        axes.text(x, y, f"{100 * page[y, x]:.0f}", color=ink, fontsize=6.5, **CENTRED)
    return figure


def _page(
    tiles: Sequence[Sequence[Tensor]],
    gap: int,
    inches: float,
    names: tuple[Sequence[str], Sequence[str]],
    **style: Any,
) -> tuple[Figure, Any, Any]:
    """Rows of pictures with strips between, in one panel: 40 panels took 3 seconds."""
    sides: Any = {"pad_width": ((0, gap), (0, gap)), "constant_values": np.nan}
    padded = [[np.pad(tile, **sides) for tile in row] for row in tiles]
    n_rows, n_columns = len(tiles), len(tiles[0])
    width, height = 1.9 + inches * n_columns, 0.6 + inches * n_rows
    figure, ((axes,),) = new_figure(width, height, frame=False)
    shown = axes.imshow(np.block(padded), aspect="auto", **style)
    y, x = (
        [(k + 0.5) * side - (gap + 1) / 2 for k in range(n)]
        for side, n in zip(padded[0][0].shape, (n_rows, n_columns))
    )
    axes.set_xticks(x, names[1])
    axes.set_yticks(y, names[0])
    axes.xaxis.tick_top()
    return figure, axes, shown


def drift_of_knots(drifts: Mapping[str, Tensor]) -> Figure:
    """How far coefficients moved since each experience, along the grid.

    A panel per layer; the root mean square over inputs of each knot's drift, given by
    layer as ``(n_experiences, in_features, n_basis)``.
    """
    figure, (panels,) = new_figure(0.8 + 3.2 * len(drifts), 2.8, len(drifts))
    for axes, (layer, since) in zip(panels, drifts.items()):
        for k, drift in enumerate(since[:-1]):  # since the last one, nothing moved
            values = drift.square().mean(0).sqrt().numpy()
            x, label = np.arange(1, len(values) + 1), f"since experience {k + 1}"
            style: Any = {"color": experience_colour(k), "ms": 3, "linewidth": 1.4}
            axes.plot(x, values, "o-", label=label, **style)
        y = "" if axes is not panels[0] else "drift, root mean square"
        label_axes(axes, "coefficient, along the grid", y, in_words(layer), size=8)
        axes.set_ylim(bottom=0)
    panels[-1].legend(fontsize=7, frameon=False)
    return figure


def rollback_bars(regained: Sequence[Mapping[str, float]], score: str) -> Figure:
    """What putting back each group of parameters brings, by old experience and group."""
    groups = list(dict.fromkeys(group for values in regained for group in values))
    experiences = range(len(regained))
    figure, ((axes,),) = new_figure(2.6 + 0.16 * (len(groups) + 1) * len(regained), 2.8)
    width = 0.86 / len(groups)
    ends = {"nothing": FAINT, "all": INK}
    for place, group in enumerate(groups):
        x = [k + width * (place - (len(groups) - 1) / 2) for k in experiences]
        heights = [values.get(group, 0.0) for values in regained]
        colour = ends.get(group, experience_colour(place - 1))
        axes.bar(x, heights, width, color=colour, label=in_words(group))
    axes.set_xticks(experiences, [f"experience {k + 1}" for k in experiences])
    label_axes(axes, y=f"{score} with that put back", size=8)
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def in_words(name: str) -> str:
    return name.replace("_", " ")


def _some(n: int, most: int) -> list[int]:
    return torch.linspace(0, n - 1, min(n, most)).round().int().tolist()
