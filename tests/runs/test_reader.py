"""Run folders read back: nothing is trusted, nothing is dropped."""

import json
from unittest.mock import ANY

import pytest

from kancl.metrics.score_matrix import summarise
from kancl.runs import find_runs, read_run
from kancl.runs.measurements import series_of
from kancl.runs.names import CURVE
from tests.reporting.report.conftest import edit, planted


@pytest.mark.parametrize("strategy", ["naive", "joint", "cumulative"])
def test_metrics_recomputed_from_the_series_are_those_of_the_run(make_run, strategy):
    summary, folder = make_run(f"strategy={strategy}", "scenario.n_experiences=2")
    run = read_run(folder)
    assert run.completed and run.problems == ()
    for metric in ["average_accuracy", "learning_accuracy", "forgetting"]:
        assert run.recomputed[metric] == summary[metric]
    assert run.recomputed["undefined"] == summary["undefined"]
    assert len(series_of(run.metrics, CURVE)) == 2


def test_metrics_need_neither_matrix_nor_summary_to_be_right(plant):
    (folder,) = plant("model=kan", outcome=lambda config: (0.9, 0.5))
    edit(folder, average_accuracy=0.99)
    text = (folder / "accuracy_matrix.csv").read_text()
    (folder / "accuracy_matrix.csv").write_text(text.replace("0.5", "0.6"))
    run = read_run(folder)
    expected = summarise(planted(0.9, 0.5))
    assert run.recomputed.items() >= (expected | {"undefined": ANY}).items()
    assert run.recomputed["minimum_accuracy"] == 0.5 and run.completed
    assert "accuracy_matrix.csv differs" in run.problems[0]
    assert "average_accuracy in summary.json is 0.99" in run.problems[1]


def test_every_run_is_found_whatever_became_of_it(plant, tmp_path):
    ends = {0: (0.9, 0.5), 1: "failed", 2: "diverged", 3: "unfinished"}
    plant("seed=range(4)", outcome=lambda config: ends[config.seed])
    runs = find_runs([tmp_path])
    status = {run.seed: run.status for run in runs}
    assert status == {0: "completed", 1: "failed", 2: "diverged", 3: "unfinished"}
    assert runs[1].problems == ("Diverged: the loss is nan",)


def test_paths_that_overlap_give_every_run_once(plant, tmp_path):
    folders = plant("seed=range(2)", outcome=lambda config: (0.9, 0.5))
    assert len(find_runs([tmp_path, folders[0], tmp_path / "."])) == 2


HEAD = "iteration,experience,name,value\n"


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("config.yaml", "scenario: [", "config.yaml"),
        ("config.yaml", "- 1\n- 2\n", "holds no keys"),
        ("config.yaml", "seed: 1\n", "no scenario.name"),
        ("config.yaml", None, "config.yaml"),
        ("summary.json", "[]", "expected keys"),
        ("summary.json", "{", "JSONDecodeError"),
        ("metrics.csv", "a,b\n1,2\n", "iteration"),
        ("metrics.csv", "iteration,experience,name,value\n", "nothing was evaluated"),
        ("metrics.csv", "iteration,experience,name,value\n1,0,x,much\n", "much"),
        ("metrics.csv", "iteration,experience,name,value\n0,0,test_accuracy,7", "7"),
        ("metrics.csv", HEAD + f"1,{10**12},test_accuracy,1\n", "no run has"),
        ("metrics.csv", HEAD + f"{10**20},0,test_accuracy,1\n", "no run has"),
        ("metrics.csv", HEAD + "1,0," + "x" * 200_000 + ",1\n", "field larger"),
        ("summary.json", "[" * 100_000, "nested too deeply"),
        (
            "summary.json",
            '{"status": "completed", "n_experiences": 1e11}',
            "no run has",
        ),
        ("metrics.csv", None, "metrics.csv"),
        ("accuracy_matrix.csv", "after\nx,y\n", "accuracy_matrix.csv is no table"),
    ],
)
def test_what_cannot_be_read_is_a_run_that_says_why(plant, file, content, says):
    (folder,) = plant("model=kan", outcome=lambda config: (0.9, 0.5))
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(content)
    run = read_run(folder)
    assert run.status == "unreadable" and says in run.problems[0]


def test_a_matrix_that_is_missing_is_said_and_not_needed(plant):
    (folder,) = plant("model=kan", outcome=lambda config: (0.9, 0.5))
    (folder / "accuracy_matrix.csv").unlink()
    run = read_run(folder)
    assert run.completed and run.problems == ("accuracy_matrix.csv is missing",)


def test_values_of_another_kind_are_not_numbers(plant):
    (folder,) = plant("model=kan", outcome=lambda config: (0.9, 0.5))
    edit(folder, n_parameters="<b>many</b>", flops=True, n_iterations=10**4000)
    run = read_run(folder)
    assert run.number("n_parameters") is run.number("flops") is None
    assert run.number("n_iterations") is None
    assert json.loads((folder / "summary.json").read_text())["flops"] is True


def test_no_folder_and_no_runs_are_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no .*nowhere"):
        find_runs([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="no run folder in"):
        find_runs([tmp_path])
