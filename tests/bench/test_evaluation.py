"""The benchmark of continual evaluation runs, and says what was to be shown."""

from kancl.bench import evaluation
from kancl.bench.evaluation import bench_evaluation, main
from kancl.bench.harness import Timing


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
            key: Timing([], with_it if key[2] else without, [470]) for key in variants
        }

    monkeypatch.setattr(evaluation, "take_turns", timed)
    assert main(["--samples", "25", "--models", "mlp"]) == 1
    head, curve, locality = [
        line for line in capsys.readouterr().out.splitlines() if "─" not in line.strip()
    ][-4:-1]
    assert curve.split()[:2] == ["mlp", "curve"] and head.split()[0] == "model"
    assert curve.split()[4:] == ["47", "0.100", "6.000", "10.0", "PASS"]
    assert locality.split()[-3:] == ["6.000", "5.000", "FAIL"]
