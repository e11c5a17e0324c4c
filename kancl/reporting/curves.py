"""Forgetting curves read off a run's measurements, and their mean over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kancl.metrics.score_matrix import ACCURACY, Score
from kancl.metrics.statistics import t_interval
from kancl.runs.measurements import Measurement, score_of, series_of, training_ends

Line = Sequence[tuple[int, float]]
"""``(iteration, value)`` points."""

Band = Sequence[tuple[int, float, float]]
"""``(iteration, low, high)`` of a 95 % t-interval of the mean."""


@dataclass(frozen=True)
class Curves:
    """The score on every experience against training iterations, for one run or the
    mean of ``n_seeds``.

    Args:
        points: a line per experience.
        boundaries: iterations at which each experience trained so far ended.
        bands: a band per experience; none for a single run.
        seen_band: the band of ``seen``.
    """

    label: str
    points: tuple[Line, ...]
    boundaries: tuple[int, ...]
    trains_jointly: bool = False
    n_seeds: int = 1
    bands: tuple[Band, ...] = ()
    seen_band: Band = ()
    score: Score = ACCURACY

    @classmethod
    def from_measurements(cls, rows: Iterable[Measurement], label: str) -> Curves:
        """Raises: ValueError if no curve was measured."""
        measurements = list(rows)
        score = score_of(measurements)
        points = series_of(measurements, f"curve_{score.name}")
        if not points:
            raise ValueError(f"run {label!r} has no curve_{score.name} measurements")
        return cls(label, points, *training_ends(measurements), score=score)

    @property
    def n_experiences(self) -> int:
        return len(self.points)

    @property
    def last_iteration(self) -> int:
        return max((it for line in self.points for it, _ in line), default=0)

    def starts(self, experience: int) -> int | None:
        """Iteration at which training on an experience begins, None if not begun."""
        if self.trains_jointly or experience == 0:
            return 0
        begun = experience <= len(self.boundaries)
        return self.boundaries[experience - 1] if begun else None

    def split(self, experience: int) -> tuple[Line, Line]:
        """An experience's points before its training and from its start on; the point
        at the start belongs to both.
        """
        start, line = self.starts(experience), self.points[experience]
        if start is None:
            return line, []
        return [p for p in line if p[0] <= start], [p for p in line if p[0] >= start]

    def seen(self) -> Line:
        """Mean over the experiences begun, at every iteration > 0 at which all of them
        were measured.
        """
        starts = [self.starts(k) for k in range(self.n_experiences)]
        values: dict[int, list[float]] = {}
        for start, line in zip(starts, self.points):
            for iteration, value in line:
                if start is not None and iteration > start:
                    values.setdefault(iteration, []).append(value)
        return [
            (it, sum(at) / len(at))
            for it, at in sorted(values.items())
            if len(at) == sum(start is not None and start < it for start in starts)
        ]


def mean_curves(runs: Sequence[Curves], label: str) -> Curves:
    """The mean of several seeds' curves with its band, point by point.

    Where experiences are of unequal size from seed to seed, every run's iterations are
    stretched so that its boundaries fall on those of the first.

    Raises: ValueError without runs, or for runs of unlike experiences.
    """
    if not runs:
        raise ValueError("no runs to average")
    first = runs[0]
    if len({(r.n_experiences, len(r.boundaries), r.trains_jointly) for r in runs}) > 1:
        raise ValueError(f"{label}: the runs have unlike numbers of experiences")

    def mean(lines: Sequence[Line]) -> tuple[Line, Band]:
        at, columns = [iteration for iteration, _ in lines[0]], []
        for run, line in zip(runs, lines):
            onto = [0, *run.boundaries], [0, *first.boundaries]
            iterations = np.interp([it for it, _ in line], *onto)
            columns.append(np.interp(at, iterations, [value for _, value in line]))
        band = []
        for iteration, values in zip(at, np.transpose(columns).tolist()):
            interval = t_interval(values)
            if interval is not None:  # cut to the values that the score can have
                high = min(interval.high, first.score.largest)
                band.append((iteration, max(interval.low, 0.0), high))
        return tuple(zip(at, np.mean(columns, axis=0).tolist())), tuple(band)

    points, bands = zip(*map(mean, zip(*(run.points for run in runs))))
    return replace(
        first,
        label=label,
        points=points,
        n_seeds=len(runs),
        bands=bands if len(runs) > 1 else (),
        seen_band=mean([run.seen() for run in runs])[1],
    )
