"""The joint scenario's questions, on numbers worked by hand."""

import pytest

from kancl.observe.recorder import Measurement
from kancl.reporting.comparison import Epochs, convergence_answers, convergence_table

# After epoch 1, 2, 3: (training accuracy, accuracy on unseen data, losses).
KAN = [(0.90, 0.95, 0.4, 0.20), (0.98, 0.970, 0.1, 0.10), (0.999, 0.971, 0.01, 0.13)]
MLP = [(0.85, 0.90, 0.5, 0.30), (0.93, 0.940, 0.3, 0.20), (0.970, 0.968, 0.10, 0.11)]


def rows(epochs: list[tuple[float, ...]], held_out: str) -> list[Measurement]:
    names = ["train_accuracy", f"{held_out}_accuracy", "train_loss", f"{held_out}_loss"]
    found = [Measurement(0, 0, f"{held_out}_accuracy", 0.1)]
    for k, values in enumerate(epochs, start=1):
        found += [Measurement(10 * k, 0, n, v) for n, v in zip(names, values)]
    return found


@pytest.fixture
def runs() -> tuple[Epochs, Epochs]:
    return (
        Epochs.from_measurements(rows(KAN, "test"), "kan"),
        Epochs.from_measurements(rows(MLP, "test"), "mlp"),
    )


def test_series_by_epoch(runs: tuple[Epochs, Epochs]) -> None:
    kan, _ = runs
    assert kan.iterations == (10, 20, 30)
    assert kan.unseen_accuracy == (0.95, 0.970, 0.971)
    assert kan.train_loss == (0.4, 0.1, 0.01)


def test_held_out_data_come_before_test_data() -> None:
    both = rows(KAN, "test") + rows(MLP, "validation")
    epochs = Epochs.from_measurements(both, "x")
    assert epochs.unseen_accuracy == (0.9, 0.94, 0.968)
    assert epochs.unseen == "validation"


def test_gap_and_rise(runs: tuple[Epochs, Epochs]) -> None:
    kan, mlp = runs
    assert kan.gap == pytest.approx(0.028) and mlp.gap == pytest.approx(0.002)
    assert kan.loss_rise == pytest.approx(0.03) and mlp.loss_rise == 0


def test_answers(runs: tuple[Epochs, Epochs]) -> None:
    # The lower best is 0.968, less half a point: 0.963; epoch 2 and epoch 3.
    faster, close, overfits = convergence_answers(*runs)
    assert "Yes: 96.3 % is reached after epoch 2 (kan) and 3 (mlp)" in faster
    assert "Yes: +0.30 points" in close
    assert "training - test accuracy" in overfits and "validation" not in overfits
    assert "kan more" in overfits and "+2.80 (kan) and +0.20 (mlp)" in overfits
    slower, _, _ = convergence_answers(*reversed(runs))
    assert "No: 96.3 % is reached after epoch 3 (mlp) and 2 (kan)" in slower


def test_table_has_a_row_per_run(runs: tuple[Epochs, Epochs]) -> None:
    table = convergence_table(runs)
    titles = [column.title for column in table.columns]
    assert "test\naccuracy" in titles and "training -\ntest" in titles
    assert [row[:4] for row in table.texts(table.rows)] == [
        ["kan", "2", "97.10", "97.10 (3)"],
        ["mlp", "3", "96.80", "96.80 (3)"],
    ]


def test_runs_without_epochs_are_refused() -> None:
    with pytest.raises(ValueError, match="evaluation.each_epoch=true"):
        Epochs.from_measurements([Measurement(5, 0, "batch_loss", 1.0)], "kan")
