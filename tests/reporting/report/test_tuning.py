"""What kancl tune wrote down becomes confounds beside the runs that it is about."""

import pytest
import yaml

from kancl.reporting.report import benchmarks, compare, find_tunings, write_report
from kancl.reporting.report.confounds import confounds
from kancl.runs import find_runs

BUDGET, EDGE = "Unequal tuning budget", "Optimum at the edge of its grid"


def record(model, **changes):
    return {
        "scenario": "split_mnist",
        "incremental": "class",
        "model": model,
        "strategy": "naive",
        "trials": 20,
        "seeds": [1000],
        "chosen": {"optimizer.lr": "0.0003"},
        "at_edge": [],
    } | changes


@pytest.fixture
def flagged(plant, tmp_path):
    """The confounds of planted runs at lr=3e-4, tuned as these records say."""

    def make(*records):
        words = ["model=kan,mlp", "optimizer.lr=3e-4", "seed=range(2)"]
        plant(*words, outcome=lambda config: (0.9, 0.5))
        folder = tmp_path / "tuned"
        folder.mkdir()
        (folder / "mine.yaml").write_text(yaml.safe_dump({"tuning": list(records)}))
        (benchmark,) = benchmarks(find_runs([tmp_path]))
        found = confounds(benchmark, compare(benchmark), find_tunings([tmp_path]))
        return {confound.title: confound for confound in found}

    return make


def test_equal_trials_are_a_note(flagged):
    found = flagged(record("kan"), record("mlp"))
    assert found["Tuned alike"].level == "note"
    assert "20 trials each" in found["Tuned alike"].text
    assert BUDGET not in found and EDGE not in found


@pytest.mark.parametrize(
    ("records", "says"),
    [
        ([record("kan")], "kan-naive 20 trials, mlp-naive 0 trials"),
        ([record("kan"), record("mlp", trials=5)], "mlp-naive 5 trials"),
        # of other settings, another kind, another strategy: not about these runs
        ([record("kan"), record("mlp", chosen={"optimizer.lr": "0.1"})], "0 trials"),
        ([record("kan"), record("mlp", incremental="task")], "0 trials"),
        ([record("kan"), record("mlp", strategy="ewc")], "0 trials"),
    ],
)
def test_an_unequal_budget_is_a_warning(flagged, records, says):
    found = flagged(*records)
    assert found[BUDGET].level == "warning" and says in found[BUDGET].text
    assert "Tuned alike" not in found


def test_an_optimum_at_the_edge_and_seeds_used_twice_are_warnings(flagged):
    at_edge = record("kan", at_edge=["optimizer.lr"], seeds=[1, 1000])
    found = flagged(at_edge, record("mlp"))
    assert "kan-naive: optimizer.lr=0.0003" in found[EDGE].text
    (seeds,) = (f for title, f in found.items() if "seeds that settings" in title)
    assert seeds.level == "warning" and seeds.text == "kan-naive: seeds 1."


def test_no_tuning_says_nothing_of_it(flagged):
    assert not {BUDGET, EDGE, "Tuned alike"} & flagged().keys()


OTHERS = [
    "tuning: [{model: kan}]",
    "tuning: 3",
    "model: kan",
    "a: &a [x, x]\ntuning: [*a, *a]",
    yaml.safe_dump({"tuning": [record("kan", at_edge=[[1, 2], {}])]}),
    yaml.safe_dump({"tuning": [record("kan", chosen=[1])]}),
    yaml.safe_dump({"tuning": [record("kan", strategy={})]}),
    yaml.safe_dump({"tuning": [record("kan", trials="many")]}),
]


def test_files_of_somebody_else_cost_themselves_alone(plant, tmp_path):
    plant("model=kan,mlp", outcome=lambda config: (0.9, 0.5))
    (tmp_path / "tuned").mkdir()
    files = [f"other{number}.yaml" for number in range(len(OTHERS))]
    for file, text in zip(files, OTHERS):
        (tmp_path / "tuned" / file).write_text(text)
    (tmp_path / "tuned" / "own.yaml").write_text(
        yaml.safe_dump({"tuning": [record("kan", chosen={}), record("mlp", chosen={})]})
    )
    tunings = find_tunings([tmp_path])
    runs = find_runs([tmp_path])
    (benchmark,) = benchmarks(runs)
    found = {c.title: c for c in confounds(benchmark, compare(benchmark), tunings)}
    said = found["A file of settings cannot be read"].text
    page = write_report(runs, tmp_path / "report", tunings).page.read_text()
    for file in files:
        assert f"{file} was not written by kancl tune" in said
        assert f"{file} was not written by" in page
    assert "Tuned alike" in found and len(tunings) == 2 + len(OTHERS)
