"""Forgetting curves read off a run's measurements."""

from collections.abc import Iterable
from dataclasses import dataclass

from kancl.plugins.forgetting_curve import CURVE
from kancl.plugins.recorder import Measurement


@dataclass(frozen=True)
class Curves:
    """Accuracy on every experience against training iterations, for one run.

    Args:
        label: the run, say ``"kan-naive"``.
        points: per experience, its ``(iteration, accuracy)`` points.
        borders: iterations at which each experience trained so far ended.
        trains_jointly: all experiences are learned from the first iteration on.
    """

    label: str
    points: tuple[tuple[tuple[int, float], ...], ...]
    borders: tuple[int, ...]
    trains_jointly: bool = False

    @classmethod
    def from_measurements(
        cls, measurements: Iterable[Measurement], label: str
    ) -> "Curves":
        """Of a recorder's measurements, or of the rows of ``metrics.csv``.

        Raises: ValueError if no curve was measured.
        """
        points: dict[int, list[tuple[int, float]]] = {}
        ends: dict[int | None, int] = {}
        for m in measurements:
            if m.name == CURVE and m.experience is not None:
                points.setdefault(m.experience, []).append((m.iteration, m.value))
            elif m.name == "batch_loss":
                ends[m.experience] = m.iteration
        if not points:
            raise ValueError(f"run {label!r} has no {CURVE} measurements")
        everything = tuple(tuple(points.get(k, ())) for k in range(max(points) + 1))
        return cls(label, everything, tuple(sorted(ends.values())), None in ends)

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
