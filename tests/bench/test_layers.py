"""The layer bench measures every variant and counts right."""

import csv
from pathlib import Path

import pytest
import torch

from kancl.bench import layers
from kancl.bench.harness import Timing, main
from kancl.bench.layers import (
    MATCHED,
    OURS,
    Speed,
    bench_layers,
    load_efficient_kan,
    peak_bytes,
    speed_rows,
    time_cell,
    training_step,
)
from kancl.config import ConfigError
from kancl.models import MLP


@pytest.fixture(autouse=True)
def no_inkan(monkeypatch: pytest.MonkeyPatch) -> None:
    """As without the extra: inkan compiles for half a minute before its first step."""
    monkeypatch.setattr(layers, "load_inkan", lambda: None)


def test_every_variant_is_timed_in_every_round() -> None:
    cell = dict(sizes=(6, 8, 3), batch_size=4, grid_size=5)
    speeds = time_cell(**cell, implementations=["dense"], rounds=3)
    by_variant = {speed.variant: speed for speed in speeds}
    expected = [OURS, "kancl, with scale", "kancl, dense", "MLP, same widths", MATCHED]
    assert list(by_variant) == expected
    for speed in speeds:
        assert len(speed.timing.seconds) == 3 and min(speed.timing.seconds) > 0
    assert by_variant[OURS].n_parameters == (6 * 8 + 8 * 3) * 9
    lean = by_variant[OURS].n_parameters
    assert abs(by_variant[MATCHED].n_parameters - lean) < 0.02 * lean


def test_ratio_pairs_rounds() -> None:
    ours = Speed(OURS, 1, Timing([1.0, 2.0, 4.0]), 100)
    theirs = Speed("theirs", 1, Timing([4.0, 4.0, 16.0]), 400)
    own, other = speed_rows([ours, theirs])
    assert own["ms per step"] == 2000.0 and own["kancl's time"] == 1.0
    assert other["kancl's time"] == 0.25 == other["kancl's memory"]


def test_peak_memory_by_hand() -> None:
    network = MLP([1000, 200, 10])
    x, target = torch.rand(50, 1000), torch.randint(10, (50,))
    step = training_step(network, x, target)
    step()
    n = 4 * (1000 * 200 + 200 + 200 * 10 + 10)
    found = peak_bytes(network, step, "cpu")
    # Parameters, gradients, two moments; hidden values before and after ReLU and their
    # gradients are at most four times 50 x 200 floats.
    assert 4 * n <= found <= 4 * n + 4 * 4 * 50 * 200 + 20_000


def test_table_files_and_missing_checkout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--layers", "4,5,3", "--batch-sizes", "2", "--rounds", "1"]
    small += ["--grid-sizes", "3", "6"]
    table, figure = tmp_path / "new" / "layers.csv", tmp_path / "layers.png"
    assert (
        main(bench_layers, [*small, "--csv", str(table), "--figure", str(figure)]) == 0
    )
    assert capsys.readouterr().out.count("4-5-3") == 2 * 4
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [r["G"] for r in rows if r["variant"] == OURS] == ["3", "6"]
    assert all(float(r["kancl's time"]) == 1 for r in rows if r["variant"] == OURS)
    assert figure.stat().st_size > 10_000
    with pytest.raises(ValueError, match="kan.py is missing"):
        load_efficient_kan(tmp_path)
    with pytest.raises(ConfigError, match="no checkout of efficient-kan"):
        main(bench_layers, [*small, "--efficient-kan", str(tmp_path)])
