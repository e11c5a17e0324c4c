"""What belongs together: benchmarks, variants, seeds."""

import json

import pytest
import torch

from kancl.reporting.variants import benchmarks
from kancl.runs import find_runs
from tests.reporting.report.conftest import planted


def outcome(config):
    return (0.9, 0.5 + 0.01 * config.seed)


def test_scenarios_are_apart_and_named_by_what_tells_them_apart(plant, tmp_path):
    plant("scenario.incremental=class,task", outcome=outcome)
    plant("scenario=permuted_mnist", outcome=outcome)
    plant("scenario.incremental=task", "scenario.pad=2", outcome=outcome)
    titles = [benchmark.title for benchmark in benchmarks(find_runs([tmp_path]))]
    assert titles == [
        "Permuted MNIST, domain-incremental",
        "Split MNIST, class-incremental",
        "Split MNIST, task-incremental (pad=0)",
        "Split MNIST, task-incremental (pad=2)",
    ]


def test_sides_are_models_with_strategies_and_settings(plant, tmp_path):
    plant("model=mlp,kan", "strategy=ewc,naive", "seed=0,1", outcome=outcome)
    plant("model=kan", "optimizer.lr=0.01", outcome=outcome)
    (benchmark,) = benchmarks(find_runs([tmp_path]))
    assert [(variant.label, variant.seeds) for variant in benchmark.variants] == [
        ("kan-naive (lr=0.001)", [0, 1]),
        ("kan-naive (lr=0.01)", [0]),
        ("kan-ewc", [0, 1]),
        ("mlp-naive", [0, 1]),
        ("mlp-ewc", [0, 1]),
    ]


def test_settings_that_an_older_version_lacks_are_no_part_of_a_name(plant, tmp_path):
    (old,) = plant("seed=0", outcome=outcome, log_dir=tmp_path / "old")
    plant("seed=1", outcome=outcome, log_dir=tmp_path / "new")
    text = (old / "config.yaml").read_text().replace("  degree: 3\n", "")
    (old / "config.yaml").write_text(text)
    (benchmark,) = benchmarks(find_runs([tmp_path]))
    assert [(variant.label, variant.seeds) for variant in benchmark.variants] == [
        ("kan-naive", [1]),
        ("kan-naive (settings of another version 1)", [0]),
    ]


def test_edited_code_and_data_make_other_runs(plant, tmp_path):
    first, second, third = plant("seed=0,1,2", outcome=outcome)
    for folder, code, data in (
        (first, "a", "x"),
        (second, "b", "x"),
        (third, "b", "y"),
    ):
        file = folder / "env.json"
        own = {"mine.py": code * 16, "scenario.pad": data * 16}
        file.write_text(json.dumps(json.loads(file.read_text()) | {"own": own}))
    titles = {
        benchmark.title: [(v.label, v.seeds) for v in benchmark.variants]
        for benchmark in benchmarks(find_runs([tmp_path]))
    }
    assert titles == {
        "Split MNIST, class-incremental (pad=0 xxxxxxxx)": [
            ("kan-naive (file mine=aaaaaaaa)", [0]),
            ("kan-naive (file mine=bbbbbbbb)", [1]),
        ],
        "Split MNIST, class-incremental (pad=0 yyyyyyyy)": [("kan-naive", [2])],
    }


def test_where_and_how_a_run_was_made_makes_no_side(plant, tmp_path):
    plant("seed=0", "device=cpu", "threads=1", outcome=outcome)
    plant("seed=1", "threads=2", "tensorboard=none", outcome=outcome)
    (benchmark,) = benchmarks(find_runs([tmp_path]))
    assert [variant.seeds for variant in benchmark.variants] == [[0, 1]]


def test_a_seed_that_stands_twice_counts_once(plant, tmp_path):
    for name in ["a", "b"]:
        plant("seed=0,1", outcome=outcome, log_dir=tmp_path / name)
    (benchmark,) = benchmarks(find_runs([tmp_path]))
    (variant,) = benchmark.variants
    assert variant.seeds == [0, 1]
    assert [run.seed for run in variant.repeated] == [0, 1]


def test_a_completed_run_does_not_hide_one_that_failed(plant, tmp_path):
    plant("seed=0", outcome=lambda config: "failed", log_dir=tmp_path / "a")
    plant("seed=0", outcome=outcome, log_dir=tmp_path / "b")
    (benchmark,) = benchmarks(find_runs([tmp_path]))
    variant, *_ = benchmark.variants
    assert (len(variant.completed), variant.lost) == (1, "1 failed")


def test_mean_curves_and_matrices_are_over_the_completed_seeds(plant, tmp_path):
    ends = {0: (0.9, 0.4), 1: (0.7, 0.6), 2: "diverged"}
    plant("seed=range(3)", outcome=lambda config: ends[config.seed])
    (benchmark,) = benchmarks(find_runs([tmp_path]))
    (variant,) = benchmark.variants
    mean = (planted(0.9, 0.4) + planted(0.7, 0.6)) / 2
    assert torch.allclose(variant.matrices.mean(0), mean)
    assert variant.curves.n_seeds == 2
    last = [line[-1][1] for line in variant.curves.points]
    assert last == pytest.approx(mean[-1].tolist())
