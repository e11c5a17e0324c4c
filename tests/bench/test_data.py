"""The benchmark of the data path runs and compares like with like."""

import pytest

from kancl.bench.data_path import main, measure, times


def test_every_side_is_timed_and_learns() -> None:
    costs = measure(batch_size=32, repeats=2, train_samples=300, test_samples=100)
    assert costs[0].side == "bare PyTorch loop"
    assert len(costs) == 3
    for cost in costs:
        assert len(cost.seconds) == len(cost.cpu_seconds) == 2
        assert 0 < min(cost.seconds) and 0 < min(cost.cpu_seconds)
        # class-incremental and naive: the last two of ten classes, hardly more
        assert 0.1 <= cost.accuracy <= 0.4
    # the same training under two sets of metrics
    assert costs[1].accuracy == costs[2].accuracy


@pytest.mark.parametrize("model", ["mlp", "kan"])
def test_the_table_gives_ratios_to_the_bare_loop(
    model: str, capsys: pytest.CaptureFixture
) -> None:
    main(f"--model {model} --repeats 1 --train-samples 50 --test-samples 20".split(" "))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["seconds", "x", "bare"]
    assert lines[1].startswith("bare PyTorch loop")
    assert " 1.00 " in lines[1]


def test_ratios_pair_the_turns() -> None:
    assert times([2.0, 9.0, 3.0], [1.0, 3.0, 2.0]) == 2.0
