"""The benchmark of continual evaluation runs, and says what was to be shown."""

import pytest

from kancl.bench.evaluation import Cost, bench_evaluation, main


def test_runs_with_and_without_it_are_timed_in_turns():
    curve, locality = bench_evaluation(2, 8, 16, repeats=1, images=64, models=["mlp"])
    for cost in (curve, locality):
        assert len(cost.without) == len(cost.with_it) == 1
        assert min(cost.without + cost.with_it) > 0
    assert curve.n_points == 5 * 4 // 2  # 4 iterations in each of 5 experiences
    assert (curve.look, locality.look, locality.n_points) == ("curve", "locality", 0)


def test_the_share_is_the_median_of_ratios_within_turns():
    cost = Cost("mlp", "curve", without=[1.0, 2.0, 4.0], with_it=[1.2, 2.1, 4.4])
    assert cost.share == pytest.approx(0.1)


def test_the_table_has_a_verdict_and_the_precision(capsys, monkeypatch):
    costs = [
        Cost("mlp", "curve", [1.0], [1.06], 47),
        Cost("kan", "locality", [1.0], [1.06]),
    ]
    monkeypatch.setattr("kancl.bench.evaluation.bench_evaluation", lambda **_: costs)
    assert main(["--samples", "25"]) == 1
    head, mlp, kan, error = capsys.readouterr().out.splitlines()
    assert mlp.split()[4:] == ["47", "6.0%", "<", "10%", "PASS"]
    assert kan.endswith("< 5% FAIL") and head.startswith("model")
    assert error == "standard error of a point: at most 0.100"
