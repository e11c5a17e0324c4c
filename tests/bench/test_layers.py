"""The layer bench measures every side and counts right."""

from pathlib import Path

import pytest

from kancl.bench.layers import Speed, bench_layers, load_efficient_kan, main


def test_every_side_is_timed_in_every_round() -> None:
    speeds = bench_layers(layers=(6, 8, 3), batch_size=4, rounds=3, steps=1)
    by_side = {speed.side: speed for speed in speeds}
    assert list(by_side) == [
        "KAN",
        "KAN without scaler",
        "MLP, same widths",
        "MLP, same parameters",
    ]
    for speed in speeds:
        assert len(speed.seconds) == 3 and min(speed.seconds) > 0
    assert by_side["KAN"].n_parameters == (6 * 8 + 8 * 3) * 10
    lean = by_side["KAN without scaler"].n_parameters
    assert abs(by_side["MLP, same parameters"].n_parameters - lean) < 0.02 * lean


def test_ratio_pairs_rounds() -> None:
    ours = Speed("ours", 1, [1.0, 2.0, 4.0])
    theirs = Speed("theirs", 1, [3.0, 4.0, 20.0])
    assert ours.times_faster_than(theirs) == 3.0
    assert ours.median == 2.0


def test_table_and_missing_checkout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--layers", "4", "3", "--batch-size", "2", "--rounds", "1", "--steps", "1"]
    assert main(small) == 0
    assert "KAN without scaler" in capsys.readouterr().out
    with pytest.raises(ValueError, match="kan.py is missing"):
        load_efficient_kan(tmp_path)
    with pytest.raises(SystemExit):
        main([*small, "--efficient-kan", str(tmp_path)])
    assert "no checkout of efficient-kan" in capsys.readouterr().err
