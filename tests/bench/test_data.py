"""The benchmark of the data path runs and compares like with like."""

import pytest

from kancl.bench.data import bench_data, main


def test_every_variant_is_timed_and_learns() -> None:
    (rows,) = bench_data(batch_size=32, repeats=2, train_samples=300, test_samples=100)
    assert rows[0]["variant"] == "bare PyTorch loop"
    assert len(rows) == 3
    for row in rows:
        assert len(row["all seconds"].split()) == 2
        assert 0 < row["seconds"] and 0 < row["CPU seconds"]
        # class-incremental and naive: the last two of ten classes, hardly more
        assert 0.1 <= row["accuracy"] <= 0.4
    # the same training under two sets of metrics
    assert rows[1]["accuracy"] == rows[2]["accuracy"]


@pytest.mark.parametrize("model", ["mlp", "kan"])
def test_the_table_gives_ratios_to_the_bare_loop(
    model: str, capsys: pytest.CaptureFixture
) -> None:
    words = f"--model {model} --repeats 1 --train-samples 50 --test-samples 20"
    assert main(words.split(" ")) == 0
    lines = capsys.readouterr().out.splitlines()
    (head,) = [line for line in lines if "seconds" in line]
    (bare,) = [line for line in lines if "bare PyTorch loop" in line]
    assert head.split()[:4] == ["variant", "accuracy", "seconds", "times"]
    assert " 1.000 " in bare
