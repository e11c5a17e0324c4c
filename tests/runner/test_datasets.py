"""Fashion-MNIST and KMNIST through every scenario, from folders in torchvision's layout.

The images are made up: a bright bar whose place says the class.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest

from kancl.benchmarks import SCENARIOS
from kancl.data.images import SOURCES
from kancl.runner.build import build
from kancl.runner.request.compose import read_request
from tests.runner.conftest import SMALL, MakeRun

FOLDERS = {"fashion_mnist": "FashionMNIST", "kmnist": "KMNIST"}
SCENARIO_NAMES = [name for name in SCENARIOS if "mnist" in name]


def idx(array: np.ndarray) -> bytes:
    return np.array([0x0800 + array.ndim, *array.shape], ">u4").tobytes() + bytes(
        array.data
    )


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, ...]]:
    """The folder of both data sets, and the md5 of their files."""
    data_dir = tmp_path_factory.mktemp("data")
    files = {}
    for split, n in (("train", 60_000), ("t10k", 10_000)):
        labels = np.arange(n, dtype=np.uint8) % 10
        images = np.zeros((n, 28, 28), np.uint8)
        images[np.arange(n), 2 * labels + 4, 4:24] = 200
        files[f"{split}-images-idx3-ubyte"] = idx(images)
        files[f"{split}-labels-idx1-ubyte"] = idx(labels)
    for folder in FOLDERS.values():
        raw = data_dir / folder / "raw"
        raw.mkdir(parents=True)
        for name, content in files.items():
            (raw / name).write_bytes(content)
    sums = [hashlib.md5(content).hexdigest() for content in files.values()]
    return data_dir, tuple(sums)


@pytest.fixture
def data_dir(
    made_up: tuple[Path, tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The folder, with the made-up Fashion-MNIST taken for the real one."""
    folder, md5 = made_up
    fashion = dataclasses.replace(SOURCES["fashion_mnist"], md5=md5)
    monkeypatch.setitem(SOURCES, "fashion_mnist", fashion)
    return folder


@pytest.mark.parametrize("scenario", SCENARIO_NAMES)
@pytest.mark.parametrize("dataset", FOLDERS)
def test_a_run_of_every_scenario(
    make_run: MakeRun, data_dir: Path, dataset: str, scenario: str
) -> None:
    words = [f"scenario={scenario}", f"scenario.dataset={dataset}"]
    words += [f"data_dir='{data_dir}'", "model=mlp", "training.iterations=1"]
    if scenario != "mnist":
        words.append("scenario.n_experiences=2")
    summary, folder = make_run(*words)
    assert summary["status"] == "completed", summary
    assert f"dataset: {dataset}" in (folder / "config.yaml").read_text()


@pytest.mark.parametrize("incremental", ["class", "domain", "task"])
@pytest.mark.parametrize("dataset", FOLDERS)
def test_the_images_are_the_folders_scaled_as_their_data_set(
    data_dir: Path, dataset: str, incremental: str
) -> None:
    words = [f"scenario.dataset={dataset}", f"scenario.incremental={incremental}"]
    words += [f"data_dir='{data_dir}'", "scenario.normalize=standard", *SMALL]
    (config,) = read_request(words, sweep=False).configs
    info = build(config).benchmark
    source = SOURCES[dataset]
    bright = (200 / 255 - source.mean) / source.std
    for experience in (*info.train_stream, *info.test_stream):
        x, y, *_ = experience.dataset[0]
        assert x.max().item() == pytest.approx(bright, abs=1e-4)
        row = int((x[0] > x.min()).any(1).nonzero()[0])
        digit = (row - 4) // 2
        at = experience.current_experience
        expected = {"class": digit, "domain": digit - 2 * at, "task": digit - 2 * at}
        assert int(y) == expected[incremental]
