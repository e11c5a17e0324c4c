"""A forecast sees what training will do and changes nothing of it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from kancl.cli import main
from kancl.config import ConfigError
from kancl.observe.recorder import RecorderPlugin
from kancl.reporting.forecast import forecast_line
from kancl.reporting.report import write_report
from kancl.runner.check import check
from kancl.runner.request.compose import read_request
from kancl.runner.trial import Trial
from kancl.runs.measurements import forecasts_of
from kancl.runs.reader import read_run

MakeRun = Callable[..., tuple[dict[str, Any], Path]]

BOTH = ("evaluation.forecast=probe", "evaluation.forecast_ceiling=true")
ALL = ("evaluation.forecast=all", "optimizer=sgd", "optimizer.lr=0.1")
FEW = (
    *("scenario.classes=[[0,1],[2,3],[4,5,6]]", "keep_model=true"),
    "scenario.train_samples=64",
)
CELLS = {
    "naive": ["strategy=naive", "model=kan", *ALL],
    "ewc+replay, growing head": [
        *("strategy=ewc+replay", "strategy.mem_size=30", "scenario.head=growing"),
        *("strategy.fisher_samples=8", "model=mlp", "model.dropout=0.2"),
        "evaluation.forecast=stored",
    ],
    "gram, growing head, by iterations": [
        *("strategy=gram", "model=mlp", "training.iterations=5"),
        *("strategy.feature_samples=16", "scenario.head=growing", *ALL),
    ],
    "owm, head per experience": [
        *("strategy=owm", "model=mlp", "scenario.incremental=task", *ALL),
    ],
}
SLOW = {
    name: [f"strategy={name}", "training.epochs=2", "model=kan", BOTH[0]]
    for name in ("si", "lwf", "der", "agem", "grow_grids", "gdumb", "cumulative")
}


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "words",
    [
        *(pytest.param(words, id=name) for name, words in CELLS.items()),
        *(pytest.param(w, id=n, marks=pytest.mark.proof) for n, w in SLOW.items()),
    ],
)
def test_training_is_the_same_with_and_without(
    make_run: MakeRun, tmp_path: Path, words: list[str]
) -> None:
    without = ["evaluation.forecast=none"]
    _, plain = make_run(*FEW, *words, *without, log_dir=tmp_path / "a")
    told, folder = make_run(*FEW, *words, BOTH[1], log_dir=tmp_path / "b")
    assert told["status"] == "completed", told
    for name in ("model.pt", "accuracy_matrix.csv"):
        assert (folder / name).read_bytes() == (plain / name).read_bytes(), name
    of_forecast = [r for r in rows(folder) if r["name"].startswith("forecast_")]
    assert [r for r in rows(folder) if r not in of_forecast] == rows(plain)
    kinds = {row["name"].split("_")[1] for row in of_forecast}
    asked = {"overlap", "kernel", "probe", "stored", "ceiling"}
    if ALL[0] not in words:
        asked -= {"kernel", "stored" if BOTH[0] in words else "probe"}
    assert kinds == asked
    assert len(of_forecast) == 3 * (2 * len(kinds) - 1)  # pairs; accuracy and loss
    assert all(len(told[f"forecast_{kind}_seconds"]) == 2 for kind in kinds)


class Killed(BaseException):
    """No Exception, so that nothing is written down on the way out."""


def test_killed_in_a_probe_and_behind_one_it_ends_with_the_same_bytes(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*FEW, *CELLS["ewc+replay, growing head"]]
    _, whole = make_run(*words, log_dir=tmp_path / "a")
    words += ["checkpoint.every_iterations=3"]  # of 4 in each of 3 experiences
    trial, after = Trial.__call__, RecorderPlugin.after_training_iteration

    def dying(self: Trial, strategy: Any, experience: int, share: Any) -> nn.Module:
        trained = trial(self, strategy, experience, share)
        if experience == 2:
            raise Killed
        return trained

    def dying_later(self: RecorderPlugin, strategy: Any, **kwargs: Any) -> None:
        after(self, strategy, **kwargs)
        if self.iteration == 12:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Trial, "__call__", dying)
        make_run(*words, log_dir=tmp_path / "b")
    for path in tmp_path.glob("b/*/*/*/checkpoint/iteration-*"):
        path.unlink()  # at the boundary before, a forecast is made again
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(RecorderPlugin, "after_training_iteration", dying_later)
        make_run(*words, log_dir=tmp_path / "b")
    _, folder = make_run(*words, log_dir=tmp_path / "b")  # none is made again
    env = json.loads((folder / "env.json").read_text())
    assert env["resumed_at_iterations"] == [4, 10]
    for name in ("model.pt", "metrics.csv", "accuracy_matrix.csv"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name


def test_what_is_said_of_a_forecast(
    make_run: MakeRun,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    seeds_shown: list[str],
) -> None:
    """The summary's correlations are SciPy's of the rows and the test sets."""
    words = [
        "scenario=rotated_mnist",
        "scenario.train_samples=400",
        "model.hidden=[20]",
    ]
    words += ["scenario.test_samples=500", "model=mlp", "tensorboard=all"]
    words += ["evaluation.locality=true", "training.epochs=2"]
    summary, folder = make_run(*words, *BOTH)
    with (folder / "accuracy_matrix.csv").open(newline="") as file:
        matrix = [[float(v) for v in row[1:]] for row in list(csv.reader(file))[1:]]
    for kind in ("probe", "ceiling"):
        foretold = {
            (m.experience or 0, int(m.name.rpartition("_")[2]) - 1): m.value
            for m in read_run(folder).metrics
            if m.name.startswith(f"forecast_{kind}_accuracy_before_")
        }
        assert sorted(foretold) == [(s, t) for s in range(4) for t in range(s + 1, 5)]
        lost = [matrix[t][s] - matrix[t + 1][s] for s, t in foretold]
        expected = spearmanr([*foretold.values()], lost).statistic
        assert summary[f"forecast_{kind}_rho"] == pytest.approx(expected, abs=1e-12)
        assert abs(summary[f"forecast_{kind}_shuffled_rho"]) < 0.2
    assert summary["forecast_ceiling_rho"] > 0.5
    events = EventAccumulator(str(folder)).Reload()
    images = events.Tags()["images"]
    assert any(tag.endswith("-naive/forecast") for tag in images)
    assert main(["locality", str(folder)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "What was foretold before each training?" in said
    assert "second training, the ceiling" in said
    assert "did not mean more loss (mean rank correlations of" in said
    cost = sum(summary["forecast_probe_seconds"]) / summary["train_seconds"]
    assert "time / training" in said and f" {cost:.2f} " in said
    assert (folder / "locality" / "forecast.png").is_file()
    assert set(seeds_shown) == {"mlp-naive, 1 seed"}
    report = write_report([read_run(folder)], tmp_path / "report")
    assert "<h3>Forecasts</h3>" in report.page.read_text()
    line = forecast_line(forecasts_of(read_run(folder).metrics), torch.tensor(matrix))
    assert f"ceiling {summary['forecast_ceiling_rho']:+.2f}" in line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["strategy=joint"], "trains on all experiences at once"),
        (["strategy=ridge_readout"], "takes no gradient steps"),
        (["scenario=gaussian_peaks"], "regression"),
        (["training.lr_gamma=.5"], "lr_gamma counts epochs"),
        (["scenario.n_experiences=1"], "single experience"),
        ([ALL[0]], "a kernel knows steps of optimizer=sgd alone, not adam"),
        (
            [*ALL, "optimizer.weight_decay=.1"],
            "a kernel knows no optimizer.weight_decay",
        ),
        ([*ALL, "optimizer.momentum=1"], "a kernel knows no optimizer.momentum of 1"),
        ([*ALL, "model=kan", "model.standalone_scale=true"], "no factor per edge"),
        (["strategy=ewc", *ALL], "plain and preconditioned steps, not .* strategy=ewc"),
    ],
)
def test_what_cannot_be_foretold_is_refused(words: list[str], says: str) -> None:
    small = ["scenario.train_samples=48"] if "peaks" not in words[0] else []
    (config,) = read_request([BOTH[0], *small, *words], sweep=False).configs
    with pytest.raises(ConfigError, match=f"evaluation.forecast=(probe|all) .*{says}"):
        check([config])
