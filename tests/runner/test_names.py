"""What runs and comparisons are called, and how they are found by it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from kancl.cli import main
from kancl.config import RunConfig
from kancl.runner.identity import run_folder
from kancl.runner.request.compose import read_request

SMALL = (
    *"scenario.train_samples=32 scenario.test_samples=10 scenario.n_experiences=2".split(),
    *"training.batch_size=16 evaluation.samples=2 tensorboard=none device=cpu".split(),
    *"model.hidden=[3]".split(),
)
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def config_of(*words: str) -> RunConfig:
    (config,) = read_request(words, sweep=False).configs
    return config


def title_of(*words: str) -> str:
    """The name of a run's folder without its hash."""
    title, _, digest = run_folder(config_of(*words)).name.rpartition("-")
    assert len(digest) == 8
    return title


def test_a_run_folder_says_what_differs_from_the_defaults() -> None:
    assert title_of() == "seed0"
    assert title_of("optimizer.lr=0.001", "training.epochs=1") == "seed0"
    words = "seed=3", "optimizer.lr=0.01", "training.epochs=2", "model.hidden=[64,32]"
    assert title_of(*words) == "seed3-hidden=64x32-lr=0.01-epochs=2"
    assert (
        title_of("optimizer=sgd", "optimizer.momentum=0.9") == "seed0-sgd-momentum=0.9"
    )
    assert title_of("device=cpu", "threads=2") == "seed0"  # of no result's making
    assert title_of("model=kan_local") == title_of(
        "model=kan_local", "model.hidden=[256]"
    )


def test_its_length_is_bounded_and_no_value_leads_out_of_it(tmp_path: Path) -> None:
    words = [f"model.hidden=[{','.join('123456789')}]", "training.epochs=2"]
    words += ["optimizer.lr=0.0123456789", "strategy=ewc", "strategy.ewc_lambda=12.5"]
    title = title_of(*words, "scenario.n_experiences=2")
    assert len(title) <= 60 and title.endswith("-etc") and "hidden=1x2x3" in title
    file = tmp_path / "..%2f $(x) é.npz"
    file.write_bytes(b"")
    title = title_of("scenario=arrays", f"scenario.file='{file}'")
    assert set(title) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789=_-."
    )
    assert "/" not in title


def test_the_name_decides_no_identity_and_an_old_folder_is_found_by_its_hash() -> None:
    config = config_of(*SMALL, "model=mlp", "seed=1")
    named = replace(config, name="first-look")
    folder, digest = run_folder(config), run_folder(config).name[-8:]
    assert run_folder(named) == folder.with_name(f"first-look-seed1-{digest}")
    old = folder.with_name(f"seed1-{digest}")
    old.mkdir(parents=True)
    assert run_folder(config) == run_folder(named) == old
    folder.mkdir()
    assert run_folder(config) == folder and run_folder(named) in (folder, old)


@pytest.mark.parametrize(
    "name", ["../up", "a/b", ".", "", "a b", "é", "x" * 61, "a\nb"]
)
def test_a_name_is_a_word(name: str) -> None:
    with pytest.raises(ValueError, match="name takes letters, digits, _ and -, 60 at"):
        config_of(f"name='{name}'")


def test_a_named_run_is_resumed_refused_or_repeated_by_what_it_is(
    capsys: Capture,
) -> None:
    line = ["run", *SMALL, "model=mlp", "name=first-look"]
    assert main(line) == 0
    (folder,) = Path("logs").glob("*/*/*")
    assert folder.name.startswith("first-look-seed0-")
    assert main(line) == 0
    assert "completed before, skipped" in capsys.readouterr().out
    assert main([*line[:-1]]) == 0  # the same run, by whatever name
    assert str(folder) in capsys.readouterr().out
    assert main([*line, "optimizer.lr=0.1"]) == 2
    said = capsys.readouterr().err
    assert (
        "name=first-look is taken by other settings" in said and "another name" in said
    )
    assert main([*line, "seed=1"]) == 0
    assert main(["run", "--from", str(folder), "overwrite=true"]) == 0
    assert main(["run", "--from", str(folder), "seed=2"]) == 0  # has no name
    titles = sorted(p.name.rpartition("-")[0] for p in Path("logs").glob("*/*/*"))
    assert titles[:2] == ["first-look-seed0", "first-look-seed1"]
    assert len(titles) == 3 and titles[2].startswith("seed2-")


def test_a_named_comparison_lies_there_and_is_reported_by_its_name(
    capsys: Capture,
) -> None:
    line = ["compare", *SMALL, "seed=0,1", "name=first-look"]
    assert main(line) == 0
    assert "next: kancl report logs/comparisons/first-look" in capsys.readouterr().out
    folder = Path("logs/comparisons/first-look")
    assert len(json.loads((folder / "runs.json").read_text())["runs"]) == 4
    assert not list(Path("logs").glob("*/*/first-look*"))  # runs may be in several
    assert main(["run", "-q", *SMALL, "model=mlp", "seed=7"]) == 0
    capsys.readouterr()
    assert main(["report", str(folder)]) == 0
    assert "4 runs, 0 without a result" in capsys.readouterr().out
    assert (folder / "report/report.html").is_file()
    assert main(["status", str(folder)]) == 0
    assert "4 runs: 4 completed" in capsys.readouterr().out
    assert main([*line[:-2], "seed=0,1,2", line[-1]]) == 0  # more seeds of the same
    assert "4 of 6 runs were completed before" in capsys.readouterr().out
    assert main([*line, "strategy=ewc"]) == 2
    assert "first-look compares 6 runs that are not" in capsys.readouterr().err
    assert main([*line, "name=x,y"]) == 2
    assert "have one name" in capsys.readouterr().err


def test_a_comparison_without_a_name_says_what_differs(capsys: Capture) -> None:
    assert main(["compare", "-q", *SMALL, "seed=0,1", "optimizer.lr=0.1,0.01"]) == 0
    (folder,) = Path("logs/comparisons").iterdir()
    title, _, digest = folder.name.rpartition("-")
    assert title == "kan-mlp_naive_lr=0.1-0.01_2-seeds" and len(digest) == 8


def test_runs_that_are_there_are_compared_without_training(capsys: Capture) -> None:
    for model, strategy in (("kan", "naive"), ("mlp", "naive"), ("mlp", "ewc")):
        words = [f"model={model}", f"strategy={strategy}", "seed=0,1"]
        assert main(["run", "-q", "-m", *SMALL, *words]) == 0
    shutil.rmtree("logs/comparisons")
    folders = [f"logs/split_mnist-class/{name}" for name in ("kan-naive", "mlp-naive")]
    capsys.readouterr()
    assert main(["compare", *folders]) == 0
    said = capsys.readouterr().out
    assert "KAN - MLP  naive" in said and "±" in said
    assert said.splitlines()[-1] == f"next: kancl report {' '.join(folders)}"
    one, other = (
        next(Path("logs").glob(f"*/{n}/seed0-*")) for n in ("mlp-naive", "mlp-ewc")
    )
    assert main(["compare", str(one), str(other)]) == 0
    assert "MLP - MLP  ewc - naive" in capsys.readouterr().out
    assert not Path("logs/comparisons").exists()
    assert main(["compare", *folders, "seed=1"]) == 2
    assert "seed=1 is no folder" in capsys.readouterr().err
    assert main(["compare", folders[0], "logs/sweeps"]) == 2
    assert "logs/sweeps is no folder" in capsys.readouterr().err
