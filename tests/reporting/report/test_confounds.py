"""Every confound that the folders tell of is raised, and only then."""

import json

import pytest

from kancl.reporting.report.confounds import confounds
from kancl.reporting.variants import benchmarks
from kancl.reporting.verdicts import compare
from kancl.runs import find_runs
from tests.reporting.report.conftest import edit


def outcome(config):
    return (0.9, 0.5 + 0.001 * config.seed)


def raised(path):
    """``{title: text}`` of the one benchmark's confounds."""
    (benchmark,) = benchmarks(find_runs([path]))
    found = confounds(benchmark, compare(benchmark))
    assert [f.level for f in found] == sorted((f.level for f in found), reverse=True)
    return {confound.title: confound.text for confound in found}


@pytest.fixture
def clean(plant):
    """Six seeds of a KAN and an MLP trained alike."""
    return plant("model=kan,mlp", "seed=range(6)", outcome=outcome)


def _environment(folder, **changes):
    path = folder / "env.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _same_code(folders):
    for folder in folders:
        _environment(folder, commit="c0ffee", changed=False)


def test_a_fair_comparison_raises_none(clean, tmp_path):
    _same_code(clean)
    assert raised(tmp_path) == {}


def test_lost_runs_are_counted(plant, tmp_path):
    ends = {4: "diverged", 5: "failed", 6: "unfinished"}
    plant(
        "model=kan,mlp",
        "seed=range(7)",
        outcome=lambda c: (
            ends.get(c.seed, outcome(c)) if c.model.name == "kan" else outcome(c)
        ),
    )
    found = raised(tmp_path)
    assert "kan-naive: 1 diverged, 1 failed, 1 unfinished of 7." in (
        found["Runs without a result"]
    )
    assert "mlp-naive: seeds 4, 5, 6 have no partner" in found["Unequal seeds"]


def test_too_few_seeds_for_an_exact_test(plant, tmp_path):
    plant("model=kan,mlp", "seed=range(5)", outcome=outcome)
    text = raised(tmp_path)["Too few seeds for an exact test"]
    assert "n = 5 the smallest p" in text and "0.0625; 6 seeds are needed" in text


@pytest.mark.parametrize(
    ("change", "title", "says"),
    [
        (
            "training.lr_gamma=0.8",
            "Learning rate",
            "training.lr_gamma is 0.8 (kan), null",
        ),
        (
            "optimizer.lr=0.01",
            "Learning rate",
            "optimizer.lr is 0.01 (kan), 0.001 (mlp)",
        ),
        (
            "strategy.ewc_lambda=7",
            "Strategy set",
            "strategy.ewc_lambda is 7 (kan), 100",
        ),
    ],
)
def test_what_was_not_trained_alike(plant, tmp_path, change, title, says):
    plant("model=kan", "strategy=ewc", change, outcome=outcome)
    plant("model=mlp", "strategy=ewc", outcome=outcome)
    (text,) = [text for key, text in raised(tmp_path).items() if key.startswith(title)]
    assert says in text


def test_off_grid_mass(clean, tmp_path):
    for folder in clean:
        if "kan-" in str(folder):
            edit(folder, off_grid_share=[0.0, 0.96])
    assert "kan-naive: 96% into layer 2." in raised(tmp_path)["Off-grid mass"]


def test_unequal_size(clean, tmp_path):
    for folder in clean:
        if "mlp-" in str(folder):
            edit(folder, n_parameters=4000, flops=500)
    found = raised(tmp_path)
    assert "0.25 times the parameters" in found["Unequal parameters"]
    assert "4 times the forward FLOPs" in found["Unequal FLOPs"]


def test_unequal_learning(plant, tmp_path):
    learned = {"kan": 0.6, "mlp": 0.9}
    plant("model=kan,mlp", outcome=lambda c: (learned[c.model.name], 0.3))
    (text,) = [t for key, t in raised(tmp_path).items() if key.startswith("Unequal l")]
    assert text == "naive: 60% (kan), 90% (mlp)."


def test_unequal_tuning_and_an_optimum_at_the_edge(plant, tmp_path):
    def by_rate(config):
        rate = config.optimizer.options["lr"]
        return (0.9, {0.001: 0.3, 0.01: 0.5, 0.1: 0.6}.get(rate, 0.5))

    plant("model=kan", "optimizer.lr=0.001,0.01,0.1", outcome=by_rate)
    plant("model=mlp", outcome=by_rate)
    found = raised(tmp_path)
    assert found["Unequal tuning budget"] == "Settings run under naive: kan 3, mlp 1."
    edge = found["Optimum at the edge of its grid"]
    assert edge == "kan-naive: optimizer.lr=0.1 is the largest."


def test_an_optimum_inside_its_grid_is_none(plant, tmp_path):
    def by_rate(config):
        return (0.9, 0.7 if config.optimizer.options["lr"] == 0.01 else 0.3)

    plant("model=kan,mlp", "optimizer.lr=0.001,0.01,0.1", outcome=by_rate)
    found = raised(tmp_path)
    assert "Optimum at the edge of its grid" not in found
    assert "Unequal tuning budget" not in found


def test_the_experience_told(plant, tmp_path):
    plant("scenario.incremental=task", outcome=outcome)
    assert "told which experience" in raised(tmp_path)["Experience identity used"]


def test_runs_of_several_commits_and_of_changed_files(clean, tmp_path):
    _same_code(clean)
    _environment(clean[0], commit="facade", changed=True)
    found = raised(tmp_path)
    assert found["Not all made alike"] == "commit: facade, c0ffee."
    assert "differ from their commit" in found["Uncommitted changes"]


def test_a_folder_that_contradicts_itself(clean, tmp_path):
    edit(clean[0], forgetting=0.0)
    text = raised(tmp_path)["A run folder contradicts itself"]
    assert "forgetting in summary.json is 0.0" in text


def test_a_seed_that_stands_twice(plant, tmp_path):
    plant("seed=0", outcome=outcome, log_dir=tmp_path / "a")
    plant("seed=0", outcome=outcome, log_dir=tmp_path / "b")
    assert "with the same numbers" in raised(tmp_path)["A seed stands twice"]
    plant(
        "seed=0", "overwrite=true", outcome=lambda c: (0.8, 0.1), log_dir=tmp_path / "b"
    )
    assert "with OTHER numbers" in raised(tmp_path)["A seed stands twice"]
