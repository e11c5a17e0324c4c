"""The cost of checkpoints is measured on a real, small training."""

from pathlib import Path

from kancl.bench.checkpoints import measure


def test_each_part_is_measured(tmp_path: Path) -> None:
    cost = measure("mlp", "replay", 8, tmp_path)
    assert 0 < cost.asking < 1e-4 < cost.iteration < 1
    assert 0 < cost.border and 0 < cost.write < 10
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {
        *(f"experience-000{k}.ckpt" for k in (1, 2)),
        *(f"iteration-0000000{i}.ckpt" for i in (14, 16)),
    }
    n_parameters = 784 * 400 + 400 + 400 * 400 + 400 + 400 * 10 + 10
    assert cost.n_bytes > 3 * 4 * n_parameters  # with Adam's two moments
    assert cost.share == cost.asking / cost.iteration + cost.write / 30
