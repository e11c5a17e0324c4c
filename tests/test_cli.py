"""The command, in process and as a process."""

from __future__ import annotations

import json
import os
import re
import runpy
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from kancl import __version__
from kancl.cli import main
from kancl.config.schema import FIXED
from kancl.config.values import shown
from kancl.runner.registry import GROUPS

SMALL = [
    "scenario.train_samples=48",
    "scenario.test_samples=20",
    "scenario.n_experiences=2",
    "training.batch_size=16",
    "evaluation.samples=10",
    "evaluation.points_per_experience=2",
    "tensorboard=none",
    "match_to.hidden=[4]",
]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def summaries() -> list[dict[str, object]]:
    found = sorted(Path("logs").glob("*/*/*/summary.json"))
    return [json.loads(path.read_text()) for path in found]


def test_the_first_line_names_no_network_that_a_readout_replaces(
    capsys: Capture,
) -> None:
    assert main(["run", "strategy=ridge_readout", "model=mlp", *SMALL[:-1]]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line == "  mlp: frozen features and a last layer that ridge_readout solves"


def test_run_writes_under_log_dir_only(capsys: Capture, tmp_path: Path) -> None:
    assert main(["run", "model.hidden=[4]", *SMALL[:-1]]) == 0
    assert os.getcwd() == str(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]
    assert [path.name for path in Path("logs").iterdir()] == ["split_mnist-class"]
    out = capsys.readouterr().out
    assert "hidden [4], " in out and "parameters" in out and "FLOPs per sample" in out
    assert "values outside the grid: layer 1 0.0%, layer 2 " in out
    assert "\nopen: logs/split_mnist-class/kan-naive/seed0-" in out
    assert "\nnext: kancl report logs/split_mnist-class/kan-naive/seed0-" in out
    assert "tensorboard" not in out
    assert "\x1b" not in out and "\r" not in out  # no terminal, no control codes
    assert main(["run", "model.hidden=[4]", *SMALL[:-1], "-q"]) == 0
    assert "skipped" not in capsys.readouterr().out


def test_compare_lays_kan_beside_mlp(capsys: Capture) -> None:
    assert main(["compare", *SMALL, "model.hidden=[4]", "seed=0,1"]) == 0
    out = capsys.readouterr().out
    assert "KAN - MLP" in out and "too few seeds" in out
    assert [line.partition(":")[0] for line in out.splitlines()[-2:]] == [
        "open",
        "next",
    ]
    (folder,) = Path("logs/comparisons").iterdir()
    assert {path.name.split(".")[0] for path in folder.iterdir()} == {
        *("comparison", "runs", "forgetting_curves"),
    }
    assert "backward transfer %" in (folder / "comparison.csv").read_text()
    runs = summaries()
    assert [run["model"] for run in runs] == ["kan", "kan", "mlp", "mlp"]
    sizes = [run["n_parameters"] for run in runs]
    assert sizes[0] == pytest.approx(sizes[2], rel=0.05)
    capsys.readouterr()
    assert main(["compare", *SMALL, "model.hidden=[4]", "seed=0,1"]) == 0
    assert "4 of 4 runs were completed before, skipped" in capsys.readouterr().out


def test_a_sweep_of_several_seeds_ends_with_means_and_bands(capsys: Capture) -> None:
    words = [*SMALL, "model.hidden=[4]", "tensorboard=numbers", "seed=0,1"]
    assert main(["run", "-q", "-m", "model=kan,mlp", *words]) == 0
    (folder,) = Path("logs/comparisons").iterdir()
    out = capsys.readouterr().out
    assert f"tensorboard --logdir {folder} --load_fast=false" in out
    assert f"runFilter=%28%5E%7C%2F{quote(re.escape(folder.name))}%2F%29" in out
    groups = {path.parent.relative_to(folder).parts for path in folder.rglob("events*")}
    assert groups == {
        ("boundaries",),
        *(
            (m, *end)
            for m in ("kan-naive", "mlp-naive")
            for end in ((), ("low",), ("high",))
        ),
    }


def test_report_of_real_runs(capsys: Capture) -> None:
    sweep = ["model=kan,mlp", "model.hidden=[4]", "seed=0,1", *SMALL]
    assert main(["run", "-q", "-m", *sweep]) == 0
    assert main(["run", "-q", *SMALL[:-1], "optimizer=sgd", "optimizer.lr=1e30"]) == 1
    capsys.readouterr()
    assert main(["report"]) == 0
    out = capsys.readouterr().out
    assert "Split MNIST, class-incremental: too few seeds to tell (2)" in out
    assert "5 runs, 1 without a result" in out
    assert "report: logs/report/report.html" in out
    assert "tensorboard --logdir logs/report/tensorboard --load_fast=false" in out
    text = Path("logs/report/report.html").read_text()
    assert "5 runs: 4 completed, 1 diverged." in text
    assert main(["report", "logs", "--out", "elsewhere"]) == 0  # its own is no run
    assert Path("elsewhere/report.html").read_text() == text
    assert main(["report", str(next(Path("logs").glob("*/kan-naive/seed1-*")))]) == 0
    assert "no KAN and MLP" in capsys.readouterr().out


def test_a_sweep_with_a_diverged_run_goes_on_and_says_so(capsys: Capture) -> None:
    sweep = ["model=mlp", "optimizer=sgd", "optimizer.lr=1e30,1e-2", "model.hidden=[3]"]
    assert main(["run", "-m", *sweep, *SMALL[:-1]]) == 1
    assert {run["status"] for run in summaries()} == {"diverged", "completed"}
    said = capsys.readouterr()
    assert "mlp-naive lr=1e+30 seed 0, diverged" in said.out
    assert "diverged: Diverged" in said.err and "error.txt" in said.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "modle=mlp"], "nearest: model"),
        (["run", "strategy=ewk"], "there is no strategy=ewk; nearest: ewc"),
        (["run", "training.epochs=two"], "training.epochs takes int, not two"),
        (["run", "model=kan,mlp"], "add -m"),
        (["run", "--epochs", "3"], "--epochs is no option; keys are set as key=value"),
        (["run", "-m", "seed=1,2", "scenario.n_experiences=2,3"], "n_experiences=3"),
        (["run", "-m", "model=kan,mlp", "model.dropout=0.1,1.2"], "dropout"),
        (["run", "-m", "strategy=naive,der", "scenario.incremental=task"], "der"),
        (["run", "scenario.n_experiences=3"], "scenario.n_experiences=3 cannot share"),
        (["run", "model.hidden_range=[1,-1]"], "model.hidden_range: grid_range must"),
        (
            ["run", "scenario=arrays", "scenario.file=a.npz"],
            "scenario.file: there is no",
        ),
        (
            ["run", "optimizer=sgd", "optimizer.momentum=2"],
            "optimizer.momentum must be",
        ),
        (["run", "training.epochs=0"], "training.epochs must be at least 1, not 0"),
        (["run", "training.iterations=0"], "training.iterations must be at least 1"),
        (["run", "optimizer.lr=0"], "optimizer.lr must be above 0"),
        (["run", "model.hidden=64"], "nearest: 'model.hidden=[64]'"),
        (["run", "hidden=[64]"], "nearest: 'model.hidden=[64]'"),
        (["run", "seed=0..4"], "nearest: 'seed=range(0,5)'"),
        (["run", "training.epochs=", "2"], "nearest: training.epochs=2"),
        (["run", "--from", "nowhere"], "takes a run folder"),
        (["run", "--from", "nowhere", "-m"], "does not go with -m"),
        (["run", "-m", "hydra/launcher=joblob", "seed=1,2"], "hydra/launcher"),
        (["compare", "strategy=nave"], "nearest: naive"),
        (["rum"], "there is no command rum; nearest: run"),
        (["list", "model", "strategy", "optimisers"], "nearest: optimizers"),
        (["bench", "layer"], "nearest: layers"),
        (["bench"], "layers"),
        (["report"], "there is no logs"),
        (["report", "nowhere"], "there is no nowhere"),
        (["report", "."], "no run folder in ."),
    ],
)
def test_wrong_input_is_one_clear_line_and_nothing_is_written(
    capsys: Capture, tmp_path: Path, arguments: list[str], says: str
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("kancl: ") and says in error
    assert len(error.strip().split("\n")) <= 2 and "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_from_repeats_a_run(capsys: Capture) -> None:
    assert main(["run", "model.hidden=[4]", *SMALL[:-1]]) == 0
    (folder,) = Path("logs").glob("*/*/*")
    before = (folder / "metrics.csv").read_bytes()
    assert main(["run", "--from", str(folder)]) == 0
    assert "completed before, skipped" in capsys.readouterr().out
    assert main(["run", "--from", str(folder), "overwrite=true"]) == 0
    assert (folder / "metrics.csv").read_bytes() == before
    assert main(["run", "--from", str(folder), "seed=1"]) == 0
    assert len(summaries()) == 2


def listed(capsys: Capture, *words: str) -> str:
    """What is listed, as one line: it is broken at the width of the terminal."""
    capsys.readouterr()
    assert main(["list", *words]) == 0
    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines())
    return " ".join(out.split())


def test_list_shows_every_option_with_its_default(capsys: Capture) -> None:
    out = listed(capsys)
    for text in (
        "scenario=split_mnist Split MNIST:",
        "(class|domain|task)",
        "model.hidden=[64] sizes of the hidden layers",
        "strategy.ewc_lambda=",
        "optimizer.lr=0.001 step size (float > 0)",
        "training.iterations=null batches per experience instead of epochs",
        "(int >= 1 or null)",
        "(constant|linear)",
        "match=none give the model",
        "(none|params|width|flops)",
        "match_to=kan the reference, which keeps its widths (kan | mlp | kan_local)",
        "(int >= 0)",
        "overwrite=false repeat a run that is completed (bool)",
        "(all|numbers|none)",
        "([float, float] or null)",
        "hydra/launcher=basic",
        "inputs-off-the-grid",
    ):
        assert text in out, text
    assert "model=" not in listed(capsys, "optimizers")


def test_list_says_of_every_key_what_it_means_and_takes(capsys: Capture) -> None:
    options = [("", FIXED)]
    for group in GROUPS.values():
        builders = [group.options(name) for name in group.builders]
        options += [(f"{group.name}.", each) for each in builders]
    out, n_keys = listed(capsys), 0
    for prefix, each in options:
        for key, option in each.items():
            assert option.help, f"{prefix}{key}"
            meaning = f"{option.help.rstrip('.')} ({option.kind})"
            assert f"{prefix}{key}={shown(option.default)} {meaning}" in out
            n_keys += 1
    assert n_keys > 100


def test_list_shows_one_name_or_key(capsys: Capture) -> None:
    assert "Source: Kirkpatrick" in listed(capsys, "ewc")
    assert "strategy=si" not in listed(capsys, "ewc")
    out = listed(capsys, "optimizer.lr", "seed", "learned-activations")
    assert "optimizer=adam" in out and "optimizer=sgd" in out and "seed=0" in out
    assert "learning accuracy beside forgetting" in out
    out = listed(capsys, "kan_local")
    assert "preset of model=kan" in out and "model.hidden=[256]" in out
    assert "model.degree" not in out  # as in kan
    assert "training.iterations=500 (set with" in listed(capsys, "gaussian_peaks")


def test_help_and_version(capsys: Capture) -> None:
    assert main([]) == main(["--help"]) == main(["--version"]) == 0
    out = capsys.readouterr().out
    assert "kancl run" in out and f"kancl {__version__}" in out
    assert main(["run", "--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for words in (
        "match=params",
        "one of: naive joint",
        "model.grid_size=5 ",
        "optimizer.lr=0.001 step size (float > 0)",
        "training.epochs=1 passes over an experience's training data (int >= 1)",
    ):
        assert words in out, words


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--verison", "there is no command --verison; nearest: --version"),
        ("status a b", "unrecognized arguments: b; kancl status --help shows what"),
        (
            "tune --trials abc",
            "argument --trials: invalid int value: 'abc'; kancl tune",
        ),
        ("tune --trials 0 seed=1", "--trials must be at least 1, not 0"),
        ("compare logs/none", "logs/none is no folder: runs are in logs"),
        ("compare model=kan", "nearest: kancl compare model=kan,mlp"),
        ("completion", "required: SHELL; kancl completion --help shows"),
    ],
)
def test_a_wrong_command_line_is_one_sentence_with_the_way_out(
    typed: str, said: str, capsys: Capture
) -> None:
    assert main(typed.split()) == 2
    err = capsys.readouterr().err
    assert err.startswith("kancl: ") and said in err and err.count("\n") == 1, err


def test_help_on_a_command_is_what_it_says_of_itself(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["help", "status"])
    assert "usage: kancl status" in capsys.readouterr().out
    assert main(["help", "bench"]) == main(["bench", "--help"]) == 0
    assert capsys.readouterr().out.count("NAME: answers, checkpoints") == 2


def test_python_m_kancl_and_the_exit_code(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["kancl", "run", "sed=3"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("kancl", run_name="__main__")
    assert end.value.code == 2
    assert capsys.readouterr() == ("", "kancl: sed is not a key; nearest: seed=3\n")


def test_a_sweep_through_a_launcher_of_hydra(capsys: Capture) -> None:
    words = ["model.hidden=[4]", *SMALL[:-1], "seed=0,1"]
    assert main(["run", "-m", "hydra/launcher=basic", *words]) == 0
    assert [run["seed"] for run in summaries()] == [0, 1]
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "2 runs, a line as each ends; meanwhile: kancl status logs"
    lines = [line.partition(", accuracy")[0] for line in told[1:3]]
    lines[0] = re.sub(r", .* left", "", lines[0])
    assert lines == [f"run {k + 1} of 2: kan-naive seed {k}" for k in (0, 1)]
    written = {path.name for path in Path("logs").iterdir()}
    assert written == {"split_mnist-class", "comparisons"}
    assert main(["run", "-m", "hydra/launcher=basic", *words]) == 0
    assert "2 of 2 runs were completed before, skipped" in capsys.readouterr().out


@pytest.mark.proof
def test_a_sweep_in_parallel_by_joblib() -> None:
    pytest.importorskip(
        "hydra_plugins.hydra_joblib_launcher", reason="no hydra-joblib-launcher here"
    )
    words = ["model.hidden=[4]", *SMALL[:-1], "seed=0,1", "hydra/launcher=joblib"]
    assert main(["run", "-m", "hydra.launcher.n_jobs=2", *words]) == 0
    assert [run["status"] for run in summaries()] == ["completed"] * 2


def test_a_dry_run_shows_what_is_shared_what_differs_and_makes_nothing(
    tmp_path: Path, capsys: Capture
) -> None:
    logs = tmp_path / "logs"
    words = ["strategy=naive,ewc", "seed=0,1", f"log_dir={logs}", "training.epochs=3"]
    assert main(["compare", "--dry-run", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "8 runs, 8 to be made; nothing was trained"
    runs = [line for line in lines if line.startswith(str(logs))]
    told = [line.partition(" ")[2] for line in runs]
    assert told[:2] == [
        f"model.name=kan model.hidden=[64] strategy.name=naive seed={k}" for k in (0, 1)
    ]
    assert "  epochs: 3" in lines and "  lr: 0.001" in lines
    (ewc,) = (line for line in lines if line.startswith("strategy=ewc: "))
    assert "strategy.ewc_lambda=100" in ewc
    assert not logs.exists()


def test_a_dry_run_refuses_what_a_run_refuses(capsys: Capture) -> None:
    assert (
        main(["run", "--dry-run", "training.lr_gamma=0.5", "training.iterations=2"])
        == 2
    )
    assert "training.lr_gamma" in capsys.readouterr().err


def test_compare_is_called_compare_in_its_help(capsys: Capture) -> None:
    main(["compare", "--help"])
    assert capsys.readouterr().out.startswith("usage: kancl compare")


def test_a_sweep_says_which_run_it_is_at_and_how_long_is_left(capsys: Capture) -> None:
    sweep = ["run", "-m", "model.hidden=[4]", "tensorboard=none", *SMALL]
    assert main([*sweep, "seed=0"]) == 0
    assert "run 1 of" not in capsys.readouterr().out
    assert main([*sweep, "seed=0,1,2"]) == 0
    said = [x for x in capsys.readouterr().out.splitlines() if x.startswith("run ")]
    scores = r"kan-naive seed \d, accuracy [\d.]+ %, forgetting -?[\d.]+ %"
    assert re.fullmatch(rf"run 1 of 2, \d+ s left: {scores}", said[0])
    assert re.fullmatch(rf"run 2 of 2: {scores}", said[1]) and len(said) == 2
