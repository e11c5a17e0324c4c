"""Which model converges faster, which is more accurate, which overfits: by epoch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kancl.reporting.pairing import model_title
from kancl.reporting.table import Cell, Column, Table
from kancl.runs.measurements import Measurement

MARGIN = 0.005
"""Converged: within this fraction of the lower of the best validation accuracies."""


@dataclass(frozen=True)
class Epochs:
    """What was measured after every epoch of one run."""

    model: str
    iterations: tuple[int, ...]
    train_loss: tuple[float, ...]
    train_accuracy: tuple[float, ...]
    validation_loss: tuple[float, ...]
    validation_accuracy: tuple[float, ...]

    @classmethod
    def from_measurements(
        cls, measurements: Iterable[Measurement], model: str
    ) -> Epochs:
        """The validation stream is taken if there is one, else the test stream.

        Raises: ValueError if training data and the other stream were not evaluated
            after every epoch.
        """
        series: dict[str, dict[int, float]] = {}
        for m in measurements:
            if m.iteration:
                series.setdefault(m.name, {})[m.iteration] = m.value
        held_out = "validation" if "validation_loss" in series else "test"
        streams = ("train", held_out)
        names = [
            f"{stream}_{what}" for stream in streams for what in ("loss", "accuracy")
        ]
        iterations = tuple(sorted(series.get("train_loss", ())))
        if not iterations or any(
            not set(iterations) <= series.get(name, {}).keys() for name in names
        ):
            raise ValueError(
                f"run {model!r} was not evaluated after every epoch; "
                "evaluation.each_epoch=true does it"
            )
        values = (tuple(series[name][it] for it in iterations) for name in names)
        return cls(model, iterations, *values)

    def epochs_to(self, accuracy: float) -> int | None:
        """First epoch (from 1) whose validation accuracy is at least this, or None."""
        epochs = enumerate(self.validation_accuracy, start=1)
        return next((epoch for epoch, value in epochs if value >= accuracy), None)

    @property
    def gap(self) -> float:
        """Training minus validation accuracy after the last epoch."""
        return self.train_accuracy[-1] - self.validation_accuracy[-1]

    @property
    def loss_rise(self) -> float:
        """Validation loss after the last epoch above its lowest."""
        return self.validation_loss[-1] - min(self.validation_loss)


def convergence_table(runs: Sequence[Epochs]) -> Table:
    """A row per run; columns in the order of the three questions."""
    target = _target(runs)

    def percent(share: float) -> str:
        return f"{100 * share:.2f}"

    columns = (
        Column("model"),
        Column(f"epochs to\n{100 * target:.1f} %", str),
        Column("validation\naccuracy", percent, "%"),
        Column("best\n(epoch)", str),
        Column("training\naccuracy", percent, "%"),
        Column("training -\nvalidation", str),
        Column("validation\nloss", "{:.4f}".format),
        Column("above its\nlowest", "{:+.4f}".format),
    )
    rows: list[list[Cell]] = []
    for run in runs:
        accuracies = run.validation_accuracy
        best = max(accuracies)
        row: list[Cell] = [run.model, str(run.epochs_to(target)), accuracies[-1]]
        row += [f"{percent(best)} ({accuracies.index(best) + 1})"]
        row += [run.train_accuracy[-1], f"{100 * run.gap:+.2f}"]
        rows.append([*row, run.validation_loss[-1], run.loss_rise])
    return Table("", columns, rows)


def convergence_answers(compared: Epochs, reference: Epochs) -> list[str]:
    """The three questions of the joint scenario, each answered in one sentence."""
    a, b = compared, reference
    target = _target([a, b])
    epochs_a, epochs_b = a.epochs_to(target), b.epochs_to(target)
    assert epochs_a is not None and epochs_b is not None  # below both bests
    faster = "Yes" if epochs_a < epochs_b else "No"
    difference = 100 * (a.validation_accuracy[-1] - b.validation_accuracy[-1])
    close = "Yes" if abs(difference) <= 0.5 else "No"
    more = a if a.gap > b.gap else b
    return [
        f"Does the {model_title(a.model)} converge in fewer epochs? {faster}: "
        f"{100 * target:.1f} % is reached after epoch {epochs_a} ({a.model}) and "
        f"{epochs_b} ({b.model}).",
        f"Are the accuracies close? {close}: {difference:+.2f} points "
        f"({a.model} - {b.model}) after the last epoch.",
        f"Which of them overfits? {more.model} more: training - validation accuracy "
        f"{100 * a.gap:+.2f} ({a.model}) and {100 * b.gap:+.2f} ({b.model}); "
        f"validation loss above its lowest {a.loss_rise:+.4f} and {b.loss_rise:+.4f}.",
    ]


def _target(runs: Sequence[Epochs]) -> float:
    return min(max(run.validation_accuracy) for run in runs) - MARGIN
