"""The benchmark of continual evaluation runs, and says what was to be shown."""

import pytest

from kancl.bench.evaluation import Cost, bench_evaluation, main


def test_runs_with_and_without_it_are_timed_in_turns():
    (cost,) = bench_evaluation(2, 8, 16, repeats=1, images=64, models=["mlp"])
    assert len(cost.without) == len(cost.with_it) == 1
    assert min(cost.without + cost.with_it) > 0
    assert cost.n_points == 5 * 4 // 2  # 4 iterations in each of 5 experiences


def test_the_share_is_the_median_of_ratios_within_turns():
    cost = Cost("mlp", without=[1.0, 2.0, 4.0], with_it=[1.2, 2.1, 4.4])
    assert cost.share == pytest.approx(0.1)


def test_the_table_has_a_verdict_and_the_precision(capsys, monkeypatch):
    costs = [Cost("mlp", [1.0], [1.05], 47), Cost("kan", [1.0], [1.2], 47)]
    monkeypatch.setattr("kancl.bench.evaluation.bench_evaluation", lambda **_: costs)
    assert main(["--samples", "25"]) == 1
    head, mlp, kan, error = capsys.readouterr().out.splitlines()
    assert mlp.split()[3:] == ["47", "5.0%", "<", "10%", "PASS"]
    assert kan.endswith("FAIL") and head.startswith("model")
    assert error == "standard error of a point: at most 0.100"
