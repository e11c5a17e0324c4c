"""A file of arrays on the command line: compared, reported, resumed."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.benchmarks import nc_benchmark
from rich.console import Console

from kancl.benchmarks import SCENARIOS
from kancl.cli import main
from kancl.reporting.diagnosis import occupancy_maps
from kancl.runner.identity import run_folder
from kancl.runner.request.compose import read_request
from kancl.runner.run import run
from kancl.runs.reader import read_matrix
from tests.benchmarks.test_own_data import Pairs
from tests.runner.checkpoint.test_resume import check_bytes, few
from tests.runner.conftest import SMALL, MakeRun

WORDS = ["scenario=arrays", "scenario.file=mine.npz", "training.batch_size=16"]
WORDS += ["scenario.classes=[[0,1,2],[3,4],[5,6]]", "evaluation.samples=10"]


def write(path: Path, seed: int = 0) -> None:
    """Seven classes in 20 columns: 48 samples to train and 12 to test in each."""
    generator = np.random.default_rng(seed)
    y = np.arange(7).repeat(48)
    x = generator.normal(size=(len(y), 20)) + 2 * np.eye(20)[y]
    few = np.arange(len(y)) % 4 == 0
    np.savez(path, x_train=x, y_train=y, x_test=x[few], y_test=y[few])


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mine.npz")
    yield tmp_path / "mine.npz"


def test_a_comparison_and_its_report(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*WORDS, "strategy=naive,replay", "model.hidden=[4]", "match_to.hidden=[4]"]
    assert main(["compare", *words, "tensorboard=none"]) == 0
    out = capsys.readouterr().out
    assert "KAN - MLP" in out
    found = sorted(Path("logs").glob("arrays-class/*/*/summary.json"))
    assert len(found) == 4
    summaries = [json.loads(path.read_text()) for path in found]
    assert {summary["status"] for summary in summaries} == {"completed"}
    assert {summary["n_experiences"] for summary in summaries} == {3}
    assert main(["report", "logs"]) == 0
    assert Path("logs/report/report.html").is_file()
    capsys.readouterr()
    assert main(["compare", *words, "tensorboard=none"]) == 0
    assert len(sorted(Path("logs").glob("arrays-class/*/*/summary.json"))) == 4


def test_a_killed_run_ends_in_the_same_bytes(make_run: MakeRun, tmp_path: Path) -> None:
    words = ["scenario=arrays", f"scenario.file={tmp_path}/mine.npz", *few("replay")]
    words += ["scenario.classes=[[0,1,2],[3,4]]", "training.epochs=3"]
    words += ["scenario.n_experiences=null", "scenario.class_order=[6,5,4,3,2]"]
    check_bytes(make_run, tmp_path, words, 10, 21)


def test_a_diagnosis_of_colour_images(make_run: MakeRun, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (40, 6, 5, 3), dtype=np.uint8)
    y = np.arange(40) % 4
    np.savez(tmp_path / "colour.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    words = ["scenario=arrays", f"scenario.file={tmp_path}/colour.npz", "model=kan"]
    words += ["scenario.channels=last", "scenario.n_experiences=2"]
    summary, _ = make_run(*words, "evaluation.locality=true", "tensorboard=all")
    assert summary["status"] == "completed", summary


def test_pictures_of_colour_images_are_means_over_channels() -> None:
    means = torch.rand(2, 3 * 6 * 5, 4)
    page = occupancy_maps(means, (3, 6, 5))
    drawn = [image for axes in page.axes for image in axes.images]
    expected = means[0, :, 0].view(3, 6, 5).mean(0)
    assert torch.equal(torch.as_tensor(drawn[0].get_array()[:6, :5]), expected)


def test_held_out_data_do_not_say_everything_twice(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", *WORDS, "scenario.validation=0.2", "tensorboard=none"]) == 0
    out = capsys.readouterr().out
    assert [out.count(f"after experience {k} of 3") for k in (1, 2, 3)] == [1, 1, 1]


def stock(*, wide: int = 1, data_dir: Any, seed: int, device: Any) -> Any:
    """Stock Avalanche: a class per experience."""
    x = torch.randn(35, 6, generator=torch.Generator().manual_seed(seed % 2**31))
    y = torch.arange(35) % 7
    data = Pairs(x + y[:, None], y)
    return nc_benchmark(data, data, n_experiences=7, task_labels=False, shuffle=False)


@pytest.mark.parametrize("strategy", ["naive", "replay", "ewc"])
def test_a_registered_stock_benchmark_runs(
    monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    monkeypatch.setitem(SCENARIOS, "stock", stock)
    words = [*SMALL[2:], "scenario=stock", f"strategy={strategy}", "model=mlp"]
    (config,) = read_request(words, sweep=False).configs
    summary = run(config, console=Console(quiet=True))
    assert summary["status"] == "completed"
    assert (summary["scenario"], summary["n_experiences"]) == ("stock-class", 7)
    assert len(read_matrix(run_folder(config))) == 8


@pytest.mark.parametrize(
    "word, message",
    [
        ("scenario.file=", "scenario=arrays needs scenario.file=DATA.npz"),
        ("scenario.file=gone.npz", "there is no file gone.npz"),
        ("scenario.classes=[[0,7]]", "classes names 7, and there are 7: 0 to 6"),
        ("scenario.channels=last", "x_train has shape .*leave channels out"),
    ],
)
def test_what_cannot_be_is_refused_before_a_folder_is_made(
    word: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *WORDS, "model.hidden=[4]", word]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(message, said)
    assert not Path("logs").exists()
