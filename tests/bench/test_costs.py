"""Checkpoints, evaluation and sweeps are timed on real, small trainings."""

import time
from itertools import product
from pathlib import Path

import pytest

from kancl.bench import costs
from kancl.bench.costs import bench_evaluation, measure
from kancl.bench.harness import Timing, main
from kancl.config import ConfigError

TINY = "model=mlp model.hidden=[4] scenario.train_samples=20 scenario.test_samples=10"


def test_each_part_is_measured(tmp_path: Path) -> None:
    cost = measure("mlp", "replay", 8, tmp_path)
    assert 0 < cost["none due, us"] < 100 < 1e3 * cost["iteration, ms"] < 1e6
    assert 0 < cost["boundary, ms"] and 0 < cost["write, ms"] < 10_000
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {
        *(f"experience-000{k}.ckpt" for k in (1, 2)),
        *(f"iteration-0000000{i}.ckpt" for i in (14, 16)),
    }
    n_parameters = 784 * 400 + 400 + 400 * 400 + 400 + 400 * 10 + 10
    assert cost["MiB"] * 2**20 > 3 * 4 * n_parameters  # with Adam's two moments
    share = cost["none due, us"] / cost["iteration, ms"] / 10 + cost["write, ms"] / 300
    assert cost["share of the time, %"] == pytest.approx(share)


def test_runs_with_and_without_it_are_timed_in_turns():
    (rows,) = bench_evaluation(
        every=2, samples=8, batch_size=16, repeats=1, images=64, models=["mlp"]
    )
    curve, locality = rows
    for row in rows:
        assert min(row["CPU s without"], row["with"]) > 0
    assert curve["points"] == 5 * 4 // 2  # 4 iterations in each of 5 experiences
    assert (curve["look"], locality["look"]) == ("curve", "locality")
    assert locality["points"] is None


def test_the_cost_is_the_median_of_ratios_within_turns(capsys, monkeypatch):
    without, with_it = [1.0, 2.0, 4.0], [1.06, 2.1, 4.4]

    def timed(variants, turns):
        return {
            key: Timing([], with_it if key[2] else without, [{"n_iterations": 470}])
            for key in variants
        }

    monkeypatch.setattr(costs, "take_turns", timed)
    assert main(bench_evaluation, ["--samples", "25", "--models", "mlp"]) == 1
    head, curve, locality = [
        line for line in capsys.readouterr().out.splitlines() if "─" not in line.strip()
    ][-4:-1]
    assert curve.split()[:2] == ["mlp", "curve"] and head.split()[0] == "model"
    assert curve.split()[4:] == ["47", "0.100", "6.000", "10.0", "PASS"]
    assert locality.split()[-3:] == ["6.000", "5.000", "FAIL"]


def test_an_iteration_costs_what_twice_as_many_cost_more(monkeypatch) -> None:
    per_run = {1: 1e-4, "naive": 5 * 2e-4, "ewc": 5 * 4e-4}  # s, an iteration
    per_run |= {2: 1.5e-4, "replay": 5 * 3.5e-4}

    def timed(variants, turns):
        assert all(callable(prepare(0)) for prepare in variants.values())
        both = product(per_run, (100, 200))
        return {(s, n): Timing([], [7 + per_run[s] * n]) for s, n in both}

    monkeypatch.setattr(costs, "take_turns", timed)
    (rows,) = costs.bench_iteration(
        strategies=("naive", "ewc", "replay"), iterations=100
    )
    beyond = [(row["strategy"], row["beyond, us"], row["verdict"]) for row in rows]
    assert beyond == [
        ("naive", pytest.approx(100), "PASS"),
        ("ewc", pytest.approx(300), "FAIL"),
        ("replay", pytest.approx(200), "PASS"),  # beyond a step of two batches
    ]


@pytest.mark.proof
def test_an_iteration_is_timed_in_real_runs() -> None:
    (rows,) = costs.bench_iteration(strategies=("naive",), iterations=50, repeats=1)
    assert 0 < rows[0]["bare step, us"] < 1e5 and rows[0]["iteration, us"] > 0


@pytest.mark.parametrize(("seconds", "code"), [([5.0, 8.0, 20.0], 0), ([9.0] * 3, 1)])
def test_joblib_is_held_to_one_process(seconds, code, monkeypatch, capsys) -> None:
    timings = {"one process": Timing([10.0, 20.0, 30.0]), "joblib": Timing(seconds)}
    monkeypatch.setattr(costs, "take_turns", lambda *_: timings)
    monkeypatch.setattr(costs, "cpu_count", lambda: 2 + code)
    assert main(costs.bench_sweep, ["--runs", "2"]) == code
    out = capsys.readouterr().out
    assert ("PASS", "FAIL")[code] in out and "1.700" in out or code


@pytest.mark.proof
def test_a_sweep_is_timed_and_has_to_be_done() -> None:
    words = [*TINY.split(), "scenario.n_experiences=2", "tensorboard=none"]
    start = time.perf_counter()
    costs.sweep(words, 2)
    assert 1 < time.perf_counter() - start < 300
    with pytest.raises(RuntimeError, match="no_such_key"):
        costs.sweep(["no_such_key=1"], 2)


def test_one_core_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "cpu_count", lambda: 1)
    with pytest.raises(ConfigError, match="one core"):
        main(costs.bench_sweep, ["--runs", "1"])
