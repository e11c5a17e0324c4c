"""Early stopping and the best epoch in runs, by validation data."""

import csv
from pathlib import Path

import pytest
import torch

from kancl.cli import main
from kancl.config import ConfigError
from kancl.runner.check import check
from kancl.runner.request.compose import read_request
from kancl.runs.reader import read_matrix
from tests.runner.conftest import MakeRun

WORDS = ["scenario.n_experiences=2", "scenario.validation=0.02", "model=mlp"]
WORDS += ["training.epochs=12", "optimizer.lr=0.05"]


def rows(folder: Path, name: str) -> list[float]:
    with open(folder / "metrics.csv", newline="") as file:
        return [float(r["value"]) for r in csv.DictReader(file) if r["name"] == name]


def test_a_run_stops_and_ends_with_its_best_epochs(make_run: MakeRun) -> None:
    keys = ["training.early_stopping=2", "training.restore_best=true"]
    summary, folder = make_run(*WORDS, *keys)
    assert summary["status"] == "completed"
    epochs, best = rows(folder, "epochs_trained"), rows(folder, "best_epoch")
    assert len(epochs) == len(best) == 2
    assert (summary["epochs_trained"], summary["best_epoch"]) == (epochs, best)
    assert all(b <= n and (n == 12 or n == b + 2) for n, b in zip(epochs, best))
    assert min(epochs) < 12
    assert summary["n_iterations"] == 3 * sum(epochs)
    # the first experience's run to its best epoch alone ends with the same network
    short = [*WORDS, f"training.epochs={int(best[0])}"]
    _, alone = make_run(*short)
    first, same = (read_matrix(f, "validation")[1] for f in (folder, alone))
    assert torch.equal(first, same)


@pytest.mark.parametrize("key", ["early_stopping=3", "restore_best=true"])
def test_what_cannot_decide_is_refused(key: str, capsys: pytest.CaptureFixture) -> None:
    name = key.partition("=")[0]
    for words, message in (
        ([], "needs data that decide, and test data never do: hold some out"),
        (
            ["scenario.validation=0.1", "training.iterations=5"],
            "looks after each epoch",
        ),
    ):
        with pytest.raises(ConfigError, match=f"training.{name} {message}"):
            check(read_request([f"training.{key}", *words], sweep=False).configs)
    assert main(["run", f"training.{key}"]) == 2
    assert f"training.{name} needs data" in capsys.readouterr().err
