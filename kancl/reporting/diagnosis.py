"""Tables and sentences of a diagnosis: what was forgotten, by what, foreseen or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median

from kancl.metrics.diagnosis import Diagnosis, Forecast, forecasts
from kancl.reporting.locality import in_words
from kancl.reporting.table import Cell, Column, Table, rounded

WORTHLESS = 0.3
"""A rank correlation below this foretells next to nothing: its square is under 0.1."""
ROUNDING = 1e-6


def diagnosis_tables(diagnosis: Diagnosis) -> list[Table]:
    return [_forgotten(diagnosis), _carriers(diagnosis), pooled_table([diagnosis])]


def pooled_table(diagnoses: Sequence[Diagnosis]) -> Table:
    """How well overlap foretold the damage, over the pairs of several runs."""
    judged = forecasts([(each.pairs, each.falls) for each in diagnoses])
    return forecast_table(judged, len(diagnoses))


def _shown(diagnosis: Diagnosis) -> Callable[[float], str]:
    return "{:.1%}".format if diagnosis.score.higher_is_better else rounded


def _forgotten(diagnosis: Diagnosis) -> Table:
    """What was lost, and to which experience most of it."""
    matrix, show = diagnosis.matrix, _shown(diagnosis)
    sign = 1 if diagnosis.score.higher_is_better else -1
    rows: list[list[Cell]] = []
    both = zip(matrix[1:].diag().tolist(), matrix[-1].tolist())
    for s, (then, now) in enumerate(both):
        taken = [(fall, t) for (old, t), fall in diagnosis.falls.items() if old == s]
        worst, t = max(taken, key=lambda pair: pair[0], default=(0.0, s))
        most = f"experience {t + 1} ({show(worst)})" if worst > 0 else ""
        rows.append([str(s + 1), then, now, sign * (then - now), most])
    titles = ("just trained", "at the end", "lost")
    numbers = [Column(title, show) for title in titles]
    columns = [Column("experience", str), *numbers, Column("most to")]
    return Table(f"What {diagnosis.title} forgot", columns, rows)


def _carriers(diagnosis: Diagnosis) -> Table:
    """Which group of parameters, put back alone, brings it back."""
    backs = [review.rollback for review in diagnosis.reviews if review.rollback]
    groups = list(backs[0].values)
    columns = [Column(in_words(group), _shown(diagnosis)) for group in groups]
    rows = [[str(k), *back.values.values()] for k, back in enumerate(backs, start=1)]
    notes = ["Nothing was forgotten: no group of parameters has to answer."]
    lost = [back for back in backs if abs(back.forgotten) >= 0.005]
    if lost:
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
            exactly = "to rounding" if apart else "exactly"
            notes.append(
                f"All put back: {exactly} the values of then, for every experience."
            )
        moved = "no coefficient moved"
        if diagnosis.leak:
            moved = f"coefficients moved by up to {diagnosis.leak:.2g}"
        notes.append(f"Where no training sample was, in the first layer, {moved}.")
    title = f"{diagnosis.score.title} with one group of parameters put back"
    return Table(title, [Column("experience", str), *columns], rows, notes=notes)


def _percents(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{in_words(name)} {share:.0%}" for name, share in shares.items())


def forecast_table(judged: Sequence[Forecast], n_runs: int = 1) -> Table:
    """Whether overlap, known before, ranks what each training took: by the median over
    views and layers, not by the luckiest of them.
    """
    known = {f: f.correlation for f in judged if f.correlation is not None}
    runs = "one run" if n_runs == 1 else f"{n_runs} runs"
    if not judged:
        notes = ["No overlap was measured in all of these runs."]
    elif not known:
        notes = [f"No rank correlation can be told over the pairs of {runs}."]
    else:
        middle = median(known.values())
        best = max(known, key=lambda forecast: known[forecast])
        verdict = "foretold the contrary: where it was larger, less was lost"
        if middle >= WORTHLESS:
            verdict = "foretold some of it"
        elif abs(middle) < WORTHLESS:
            verdict = (
                "did not foretell who would lose most: its rank correlations are near 0"
            )
        notes = [
            f"Overlap, known before each training, {verdict}.",
            f"Median of {len(known)} rank correlations with what that training took: "
            f"{middle:+.2f}, over {len(best.overlaps)} pairs of {runs}.",
            f"The best, picked with hindsight: {in_words(best.view)} "
            f"{in_words(best.layer)} {known[best]:+.2f}.",
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
