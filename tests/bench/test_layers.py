"""The layer bench measures every side and counts right."""

import csv
from pathlib import Path

import pytest
import torch

from kancl.bench import layers
from kancl.bench.layers import (
    MATCHED,
    OURS,
    Cell,
    Speed,
    _peak_bytes,
    _training_step,
    bench_layers,
    main,
    table,
)
from kancl.bench.others import load_efficient_kan
from kancl.models import MLP


@pytest.fixture(autouse=True)
def no_inkan(monkeypatch: pytest.MonkeyPatch) -> None:
    """As without the extra: inkan compiles for half a minute before its first step."""
    monkeypatch.setattr(layers, "load_inkan", lambda: None)


def test_every_side_is_timed_in_every_round() -> None:
    cell = Cell((6, 8, 3), batch_size=4, grid_size=5)
    speeds = bench_layers(cell, implementations=["dense"], rounds=3)
    by_side = {speed.side: speed for speed in speeds}
    expected = [OURS, "kancl, with scale", "kancl, dense", "MLP, same widths", MATCHED]
    assert list(by_side) == expected
    for speed in speeds:
        assert len(speed.seconds) == 3 and min(speed.seconds) > 0
    assert by_side[OURS].n_parameters == (6 * 8 + 8 * 3) * 9
    lean = by_side[OURS].n_parameters
    assert abs(by_side[MATCHED].n_parameters - lean) < 0.02 * lean


def test_ratio_pairs_rounds() -> None:
    cell = Cell((2, 1), 1, 1)
    ours = Speed(cell, OURS, 1, [1.0, 2.0, 4.0], 100)
    theirs = Speed(cell, "theirs", 1, [4.0, 4.0, 16.0], 400)
    assert ours.times_the_time_of(theirs) == 0.25
    assert ours.median == 2.0
    assert list(table([ours, theirs]))[-1][3:] == ("0.25x", "0.0", "0.25x")


def test_peak_memory_by_hand() -> None:
    network = MLP([1000, 200, 10])
    x, target = torch.rand(50, 1000), torch.randint(10, (50,))
    step = _training_step(network, x, target)
    step()
    n = 4 * (1000 * 200 + 200 + 200 * 10 + 10)
    found = _peak_bytes(network, step, "cpu")
    # Parameters, gradients, two moments; hidden values before and after ReLU and their
    # gradients are at most four times 50 x 200 floats.
    assert 4 * n <= found <= 4 * n + 4 * 4 * 50 * 200 + 20_000


def test_table_files_and_missing_checkout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--layers", "4,5,3", "--batch-sizes", "2", "--rounds", "1"]
    small += ["--grid-sizes", "3", "6"]
    assert main([*small, "--output", str(tmp_path / "new")]) == 0
    assert "4-5-3, batch 2, G = 6" in capsys.readouterr().out
    with (tmp_path / "new" / "layers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["grid_size"] for r in rows if r["side"] == OURS] == ["3", "6"]
    assert all(r["kancl_over_side"] == "1.0000" for r in rows if r["side"] == OURS)
    assert (tmp_path / "new" / "layers.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="kan.py is missing"):
        load_efficient_kan(tmp_path)
    with pytest.raises(SystemExit):
        main([*small, "--efficient-kan", str(tmp_path)])
    assert "no checkout of efficient-kan" in capsys.readouterr().err
