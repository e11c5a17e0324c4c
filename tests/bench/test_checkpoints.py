"""The cost of checkpoints is measured on a real, small training."""

from pathlib import Path

import pytest

from kancl.bench.checkpoints import measure


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
