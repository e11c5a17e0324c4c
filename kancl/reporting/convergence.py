"""Which model converges faster, which is more accurate, which overfits: by epoch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table

from kancl.runs.measurements import Measurement

MARGIN = 0.005
"""Converged: within this fraction of the lower of the best validation accuracies."""


@dataclass(frozen=True)
class Epochs:
    """What was measured after every epoch of one run.

    Args:
        label: the run, say ``"kan"``.
        iterations: training iterations done after each epoch.
        train_loss, train_accuracy: on the training data.
        validation_loss, validation_accuracy: on data not trained on.
    """

    label: str
    iterations: tuple[int, ...]
    train_loss: tuple[float, ...]
    train_accuracy: tuple[float, ...]
    validation_loss: tuple[float, ...]
    validation_accuracy: tuple[float, ...]

    @classmethod
    def from_measurements(
        cls, measurements: Iterable[Measurement], label: str
    ) -> "Epochs":
        """Of a recorder's measurements, or of the rows of ``metrics.csv``.

        The validation stream if there is one, else the test stream.

        Raises: ValueError if training data and the other stream were not evaluated
            after every epoch.
        """
        series: dict[str, dict[int, float]] = {}
        for m in measurements:
            if m.iteration:
                series.setdefault(m.name, {})[m.iteration] = m.value
        held_out = "validation" if "validation_loss" in series else "test"
        names = ["train_loss", "train_accuracy"]
        names += [f"{held_out}_loss", f"{held_out}_accuracy"]
        iterations = tuple(sorted(series.get("train_loss", ())))
        if not iterations or any(
            not set(iterations) <= series.get(name, {}).keys() for name in names
        ):
            raise ValueError(
                f"run {label!r} was not evaluated after every epoch; "
                "evaluation.each_epoch=true does it"
            )
        return cls(
            label,
            iterations,
            *(tuple(series[name][it] for it in iterations) for name in names),
        )

    def epochs_to(self, accuracy: float) -> int | None:
        """First epoch (from 1) whose validation accuracy is at least this, or None."""
        for epoch, value in enumerate(self.validation_accuracy, start=1):
            if value >= accuracy:
                return epoch
        return None

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
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("model")
    for title in (
        f"epochs to\n{100 * target:.1f} %",
        "validation\naccuracy %",
        "best\n(epoch)",
        "training\naccuracy %",
        "training -\nvalidation",
        "validation\nloss",
        "above its\nlowest",
    ):
        table.add_column(title, justify="right")
    for run in runs:
        best = max(run.validation_accuracy)
        epoch = run.validation_accuracy.index(best) + 1
        table.add_row(
            run.label,
            str(run.epochs_to(target)),
            f"{100 * run.validation_accuracy[-1]:.2f}",
            f"{100 * best:.2f} ({epoch})",
            f"{100 * run.train_accuracy[-1]:.2f}",
            f"{100 * run.gap:+.2f}",
            f"{run.validation_loss[-1]:.4f}",
            f"{run.loss_rise:+.4f}",
        )
    return table


def convergence_answers(kan: Epochs, mlp: Epochs) -> list[str]:
    """The three questions of the joint scenario, each answered in one sentence."""
    target = _target([kan, mlp])
    epochs = {run.label: run.epochs_to(target) for run in (kan, mlp)}
    k, m = epochs[kan.label], epochs[mlp.label]
    assert k is not None and m is not None  # the target is below both bests
    faster = "Yes" if k < m else "No"
    difference = 100 * (kan.validation_accuracy[-1] - mlp.validation_accuracy[-1])
    close = "Yes" if abs(difference) <= 0.5 else "No"
    more = kan if kan.gap > mlp.gap else mlp
    return [
        f"Does the KAN converge in fewer epochs? {faster}: {100 * target:.1f} % is "
        f"reached after epoch {k} ({kan.label}) and {m} ({mlp.label}).",
        f"Are the accuracies close? {close}: {difference:+.2f} points "
        f"({kan.label} - {mlp.label}) after the last epoch.",
        f"Which of them overfits? {more.label} more: training - validation accuracy "
        f"{100 * kan.gap:+.2f} ({kan.label}) and {100 * mlp.gap:+.2f} ({mlp.label}); "
        f"validation loss above its lowest {kan.loss_rise:+.4f} and "
        f"{mlp.loss_rise:+.4f}.",
    ]


def _target(runs: Sequence[Epochs]) -> float:
    return min(max(run.validation_accuracy) for run in runs) - MARGIN
