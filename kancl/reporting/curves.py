"""Forgetting curves read off a run's measurements, and their mean over seeds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from kancl.metrics.statistics import t_interval
from kancl.runs.measurements import Measurement, series_of, training_ends
from kancl.runs.names import CURVE, RMSE_CURVE


@dataclass(frozen=True)
class Curves:
    """Accuracy (or RMSE) on every experience against training iterations, for one run
    or the mean of several.

    Args:
        label: the run, say ``"kan-naive"``.
        points: per experience, its ``(iteration, value)`` points.
        borders: iterations at which each experience trained so far ended.
        trains_jointly: all experiences are learned from the first iteration on.
        n_seeds: runs of which this is the mean.
        bands: per experience, ``(iteration, low, high)`` of the 95 % t-interval of the
            mean; none for a single run.
        seen_band: the same of the mean over the experiences begun, see ``seen``.
        regression: the values are RMSEs.
    """

    label: str
    points: tuple[tuple[tuple[int, float], ...], ...]
    borders: tuple[int, ...]
    trains_jointly: bool = False
    n_seeds: int = 1
    bands: tuple[tuple[tuple[int, float, float], ...], ...] = ()
    seen_band: tuple[tuple[int, float, float], ...] = ()
    regression: bool = False

    @classmethod
    def from_measurements(
        cls, measurements: Iterable[Measurement], label: str
    ) -> "Curves":
        """Of a recorder's measurements, or of the rows of ``metrics.csv``.

        Raises: ValueError if no curve was measured.
        """
        measurements = list(measurements)
        regression = any(m.name == RMSE_CURVE for m in measurements)
        points = series_of(measurements, RMSE_CURVE if regression else CURVE)
        if not points:
            raise ValueError(f"run {label!r} has no {CURVE} measurements")
        return cls(label, points, *training_ends(measurements), regression=regression)

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
        if experience <= len(self.borders):
            return self.borders[experience - 1]
        return None

    def split(
        self, experience: int
    ) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
        """An experience's points before its training and from its start on; the point
        at the start belongs to both.
        """
        start, line = self.starts(experience), self.points[experience]
        if start is None:
            return list(line), []
        before = [p for p in line if p[0] <= start]
        return before, [p for p in line if p[0] >= start]

    def seen(self) -> list[tuple[int, float]]:
        """Mean accuracy over the experiences begun, at every iteration > 0 at which
        all of them were measured.
        """
        starts = [self.starts(k) for k in range(self.n_experiences)]
        values: dict[int, list[float]] = {}
        for start, line in zip(starts, self.points):
            for iteration, accuracy in line:
                if start is not None and iteration > start:
                    values.setdefault(iteration, []).append(accuracy)
        n_begun = {
            it: sum(start is not None and start < it for start in starts)
            for it in values
        }
        return [
            (it, sum(at) / len(at))
            for it, at in sorted(values.items())
            if len(at) == n_begun[it]
        ]


def mean_curves(runs: Sequence[Curves], label: str) -> Curves:
    """The mean of several seeds' curves with its band, point by point.

    Where experiences are of unequal size from seed to seed, every run's iterations are
    stretched so that its borders fall on those of the first.

    Raises: ValueError without runs, or for runs of unlike experiences.
    """
    if not runs:
        raise ValueError("no runs to average")
    first = runs[0]
    kinds = {(r.n_experiences, len(r.borders), r.trains_jointly) for r in runs}
    if len(kinds) > 1:
        raise ValueError(f"{label}: the runs have unlike numbers of experiences")
    points, bands = [], []
    for k, line in enumerate(first.points):
        at = [iteration for iteration, _ in line]
        columns = [_stretched(r.points[k], r, first, at) for r in runs]
        points.append(tuple(zip(at, np.mean(columns, axis=0).tolist())))
        bands.append(_band(at, columns))
    seen = [it for it, _ in first.seen()]
    columns = [_stretched(r.seen(), r, first, seen) for r in runs]
    return Curves(
        label,
        tuple(points),
        first.borders,
        first.trains_jointly,
        len(runs),
        tuple(bands) if len(runs) > 1 else (),
        _band(seen, columns),
    )


def _stretched(
    line: Sequence[tuple[int, float]], run: Curves, onto: Curves, at: Sequence[int]
) -> np.ndarray:
    """A line's values at the iterations ``at`` of another run, ``(len(at),)``."""
    iterations = np.interp(
        [it for it, _ in line], [0, *run.borders], [0, *onto.borders]
    )
    return np.interp(at, iterations, [value for _, value in line])


def _band(
    at: Sequence[int], columns: Sequence[np.ndarray]
) -> tuple[tuple[int, float, float], ...]:
    """The interval of the mean, which no accuracy's can leave [0, 1]."""
    if len(columns) < 2:
        return ()
    band = []
    for iteration, values in zip(at, np.transpose(columns).tolist()):
        interval = t_interval(values)
        assert interval is not None
        band.append((iteration, max(interval.low, 0.0), min(interval.high, 1.0)))
    return tuple(band)
