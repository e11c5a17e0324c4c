"""Tuning: on validation images and its own seeds, alike for all, written down, flagged."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from rich.console import Console

from kancl.cli import main
from kancl.config import ConfigError
from kancl.reporting.report import find_tunings
from kancl.runner.request.compose import read_request
from kancl.runner.studies.tune import Space, tune
from kancl.runs import find_runs

SMALL = ["scenario.train_samples=40", "scenario.n_experiences=2", "device=cpu"]
SMALL += ["training.batch_size=16", "model.hidden=[4]"]
RATES = "optimizer.lr=tag(log, interval(1e-9, 1e-2))"
CELLS = ["model=mlp", "strategy=naive,ewc", "strategy.ewc_lambda=1,10,100"]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    root = tmp_path_factory.mktemp("tuned")
    words = [*SMALL, RATES, *CELLS, f"log_dir='{root}'"]
    options = dict(n_trials=2, seeds=[1000], console=Console(quiet=True))
    path = tune(words, **options)
    return root, words, options, path


def test_every_cell_has_as_many_trials_on_tuning_seeds_alone(tuned):
    root, _, _, path = tuned
    records = yaml.safe_load(path.read_text())["tuning"]
    assert path == root / "tuned" / "split_mnist-class.yaml"
    cells = [(r["model"], r["strategy"]) for r in records]
    assert cells == [("mlp", "naive"), ("mlp", "ewc")]
    assert {r["trials"] for r in records} == {2}
    for record in records:
        keys = {"optimizer.lr"} | ({"strategy.ewc_lambda"} & {*record["chosen"]})
        assert set(record["chosen"]) == keys
        assert ("strategy.ewc_lambda" in keys) == (record["strategy"] == "ewc")
    runs = list(root.rglob("summary.json"))
    assert {json.loads(run.read_text())["seed"] for run in runs} == {1000}
    assert all("tuned" in run.parts for run in runs)


def test_the_best_of_the_trials_is_chosen_by_held_out_training_images(tuned):
    root, _, _, path = tuned
    for record in yaml.safe_load(path.read_text())["tuning"]:
        folder = root / "tuned/runs/split_mnist-class"
        runs = folder.glob(f"{record['model']}-{record['strategy']}/*")
        reached = {}
        for run in runs:
            config = yaml.safe_load((run / "config.yaml").read_text())
            assert config["scenario"]["validation"] == 0.1
            assert config["scenario"]["test_samples"] == 1  # nothing to choose by
            rate = config["optimizer"]["lr"], config["strategy"].get("ewc_lambda")
            summary = json.loads((run / "summary.json").read_text())
            reached[rate] = summary["validation_accuracy"]
        chosen = record["chosen"]
        strength = chosen.get("strategy.ewc_lambda")
        best = float(chosen["optimizer.lr"]), strength and float(strength)
        assert reached[best] == max(reached.values()) == record["validation_accuracy"]


def test_the_same_command_goes_on_and_another_writes_nothing_over(tuned):
    _, words, options, path = tuned
    before = path.read_text()
    tune(words, **options)
    assert path.read_text() == before
    with pytest.raises(ConfigError, match="chosen by another command"):
        tune([*words, "training.epochs=2"], **options)


def test_what_was_chosen_is_an_experiment_with_its_provenance(tuned):
    _, words, _, path = tuned
    head = path.read_text().split("question:")[0]
    assert "kancl tune" in head and RATES in head and "1000" in head
    assert "2 trials each" in head and re.search(r"# \d{4}-\d\d-\d\d, kancl", head)
    configs = read_request([f"experiment={path}", "seed=range(2)"], sweep=False).configs
    assert len(configs) == 2 * 2
    assert {c.scenario.options["validation"] for c in configs} == {0.0}
    assert {c.scenario.options["test_samples"] for c in configs} == {None}
    records = yaml.safe_load(path.read_text())["tuning"]
    rates = [float(r["chosen"]["optimizer.lr"]) for r in records]
    assert [c.optimizer.options["lr"] for c in configs[::2]] == rates


def test_trials_are_no_results_and_the_report_finds_what_was_chosen(tuned):
    root, *_ = tuned
    tunings = find_tunings([root])
    assert [t.cell[-1] for t in tunings] == ["naive", "ewc"]
    assert all(t.n_trials == 2 and [*t.seeds] == [1000] for t in tunings)
    assert all(float(t.chosen["optimizer.lr"]) > 0 for t in tunings)
    with pytest.raises(ValueError, match="no run folder|no runs"):
        find_runs([root])


def test_lists_within_the_trials_are_tried_through_each_combination_once(tmp_path):
    lists = ["optimizer.lr=1e-3,1e-2", "strategy=ewc", "strategy.ewc_lambda=1,10"]
    words = [*SMALL, *lists, "model=mlp", f"log_dir='{tmp_path}'"]
    console = Console(quiet=True)
    path = tune(words, n_trials=20, seeds=[1000], console=console)
    (record,) = yaml.safe_load(path.read_text())["tuning"]
    assert record["trials"] == 4 == len(list(tmp_path.rglob("summary.json")))


@pytest.mark.parametrize(
    ("distribution", "value", "at_edge"),
    [
        (FloatDistribution(1e-4, 1e-2, log=True), "1.05e-4", True),
        (FloatDistribution(1e-4, 1e-2, log=True), "1e-3", False),
        (IntDistribution(0, 10), "10", True),
        (IntDistribution(0, 10), "5", False),
        (CategoricalDistribution(["1", "10", "100"]), "100", True),
        (CategoricalDistribution(["1", "10", "100"]), "10", False),
        (CategoricalDistribution(["1", "10"]), "10", False),  # two have no middle
        (CategoricalDistribution(["a", "b", "c"]), "a", False),  # words, no order
    ],
)
def test_the_edge_of_a_range(distribution, value, at_edge):
    assert Space("k", "", distribution).at_edge(value) == at_edge


def test_the_first_value_is_tried_before_anything_is_trained():
    assert Space("k", "", IntDistribution(0, 10)).first == 0
    assert Space("k", "", CategoricalDistribution(["b", "a"])).first == "b"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["model=kan"], "nothing to tune"),
        (["seed=1,2"], "--seeds"),
        (["scenario.validation=0.2,0.3"], "--validation"),
        (["optimizer.lr=tag(log, interval(0, 1))"], "above 0"),
        (["optimizer.lrr=1,2"], "nearest: optimizer.lr"),
        (["optimizer.lrr=interval(0.1, 1)"], "nearest: optimizer.lr"),
        (
            ["strategy=lwf", "strategy.lwf_alpha=tag(log, interval(1, 2))"],
            "nearest: strategy.alpha",
        ),
        ([RATES, "strategy=ewcc"], "nearest: ewc"),
        ([RATES, "hydra/launcher=joblib"], "one after another"),
        ([RATES, "experiment=x"], "not set here"),
        ([RATES, "scenario=gaussian_peaks"], "nothing out to tune on"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_trained(
    words, says, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=says):
        tune(words, console=Console(quiet=True))
    assert list(Path.cwd().iterdir()) == []


def test_the_command_line_checks_its_numbers(capsys):
    assert main(["tune", RATES, "--seeds", "a"]) == 2
    assert "--seeds takes numbers, as 1000,1001, not a" in capsys.readouterr().err
    assert main(["tune", RATES, "--trials", "0"]) == 2
    assert "--trials must be at least 1, not 0" in capsys.readouterr().err
