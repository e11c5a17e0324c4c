"""Trainings and whole runs are timed beside stock Avalanche, like with like."""

import csv
from pathlib import Path

import pytest
import torch

from kancl.bench.harness import main
from kancl.bench.stock import (
    bench_data,
    bench_runs,
    stock_split_mnist,
    torchvision_folder,
)
from kancl.data.images import load_images
from kancl.data.rows import as_tensors
from kancl.models import KAN

EFFICIENT_KAN = """
from kancl.models import KAN as Layers

class KAN(Layers):
    def __init__(self, layers):
        super().__init__(layers, grid_size=2)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder laid out like efficient-kan, with a smaller network in it."""
    path = tmp_path / "checkout" / "src" / "efficient_kan" / "kan.py"
    path.parent.mkdir(parents=True)
    path.write_text(EFFICIENT_KAN)
    return tmp_path / "checkout"


def test_the_stock_benchmark_has_the_images_of_the_package() -> None:
    with torchvision_folder(samples=3) as folder:
        benchmark = stock_split_mnist(folder, train_transform=None)
        x, y, _ = as_tensors(benchmark.train_stream[1].dataset)
    mnist = load_images()
    first = [torch.nonzero(mnist.train_labels == c).flatten()[:3] for c in (2, 3)]
    rows = torch.cat(first).sort().values
    assert sorted(y.tolist()) == [2, 2, 2, 3, 3, 3]
    expected = mnist.train_x[rows].float() / 255
    assert {tuple(image.flatten().tolist()) for image in x} == {
        tuple(image.flatten().tolist()) for image in expected
    }


@pytest.mark.slow
def test_every_variant_runs_and_stands_in_the_table(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "runs.csv"
    small = ["--samples", "10", "--repeats", "1", "--csv", str(path)]
    assert main(bench_runs, [*small, "--efficient-kan", str(checkout)]) == 0
    header, *rows = csv.reader(path.read_text().splitlines())
    variants = [tuple(row[:2]) for row in rows]
    assert variants == [
        ("kancl", "kan"),
        ("Avalanche + efficient-kan", "kan"),
        ("kancl", "mlp"),
        ("Avalanche", "mlp"),
    ]
    figures = [dict(zip(header, row)) for row in rows]
    assert figures[2]["parameters"] == figures[3]["parameters"]
    small_kan = sum(p.numel() for p in KAN([784, 64, 10], grid_size=2).parameters())
    assert int(figures[1]["parameters"]) == small_kan
    for row in figures:
        assert float(row["seconds"]) > 0 < float(row["CPU seconds"])
        assert 0 <= float(row["accuracy"]) <= 1
    for times in ("times", "times CPU"):
        assert [float(row[times]) for row in figures][::2] == [1.0, 1.0]
    assert "CPU seconds" in capsys.readouterr().out


def test_a_folder_without_efficient_kan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="kan.py is missing"):
        next(iter(bench_runs(efficient_kan=str(tmp_path))))


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
    assert main(bench_data, words.split(" ")) == 0
    lines = capsys.readouterr().out.splitlines()
    (head,) = [line for line in lines if "seconds" in line]
    (bare,) = [line for line in lines if "bare PyTorch loop" in line]
    assert head.split()[:4] == ["variant", "accuracy", "seconds", "times"]
    assert " 1.000 " in bare
