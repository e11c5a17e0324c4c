"""A regression through the whole of kancl: run, refusals, protocol, figures."""

import json
from pathlib import Path

import pytest

from kancl.cli import main
from kancl.config import ConfigError
from kancl.reporting.figures import LearnedFunction
from kancl.runner.check import check
from kancl.runner.request.compose import read_request
from kancl.runs import read_run

PEAKS = "scenario=gaussian_peaks"


def one(*words):
    (config,) = read_request([PEAKS, *words], sweep=False).configs
    return config


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def peaks_run(*words):
    short = ["training.iterations=4", "tensorboard=none", "device=cpu", "-q"]
    assert main(["run", PEAKS, *short, *words]) == 0
    (path,) = Path("logs").glob("*/*/*/summary.json")
    return json.loads(path.read_text()), path.parent


def test_a_run_leaves_errors_functions_and_pictures():
    summary, folder = peaks_run("tensorboard=all", "model.grid_size=20")
    names = {path.name for path in folder.iterdir()}
    assert {"rmse_matrix.csv", "learned_function.csv", "learned_function.png"} <= names
    assert "accuracy_matrix.csv" not in names
    assert len(summary["phase_rmse"]) == 5 and len(summary["rmse_increases"]) == 4
    assert summary["old_peak_rmse_increase"] == summary["rmse_increases"][-1]
    rows = (folder / "rmse_matrix.csv").read_text().splitlines()[1:]
    r = [[float(cell) for cell in row.split(",")[1:]] for row in rows]
    assert summary["phase_rmse"] == pytest.approx([r[j + 1][j] for j in range(5)])
    falls = [r[5][j] - r[j + 1][j] for j in range(4)]
    assert summary["old_peak_rmse_increase"] == pytest.approx(max(falls))
    learned = LearnedFunction.read(folder, "kan")
    assert learned.points.shape == (401, 1) and len(learned.functions) == 5
    at = learned.points[:, 0].sub(0.8).abs().argmin()
    assert learned.target[at].item() == pytest.approx(1.0, abs=1e-4)
    run = read_run(folder)
    assert run.completed and run.problems == ()
    assert run.metric("average_rmse") == summary["average_rmse"]


@pytest.mark.parametrize(
    "strategy",
    [
        *("joint", "cumulative", "from_scratch", "l2_anchor", "si", "mas"),
        *("occupancy", "gram", "lazy", "freeze_base", "drift_penalty", "l2_anchor+si"),
    ],
)
def test_strategies_that_ask_for_no_classes_serve(strategy):
    summary, _ = peaks_run(f"strategy={strategy}")
    assert summary["average_rmse"] < 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["strategy=ewc"],
            "it takes class probabilities; use strategy=mas or strategy=si",
        ),
        (["strategy=replay"], "it keeps samples by class; use strategy=l2_anchor"),
        (["scenario.head=growing"], "is a head for classes"),
        (["match=params", "match_to=mlp"], "matching needs a hidden layer"),
        (["scenario.dimensions=3"], "dimensions=3 must be 1 or 2"),
    ],
)
def test_bad_combinations_are_refused_before_training(words, says):
    with pytest.raises(ConfigError, match=says):
        check([one(*words)])


@pytest.mark.parametrize(
    "key", ["incremental=class", "normalize=unit", "validation=0.1"]
)
def test_options_of_images_are_no_options_here(key):
    with pytest.raises(
        ConfigError, match="is not a key of scenario=gaussian_peaks, but"
    ):
        one(f"scenario.{key}")


def test_its_settings_yield_to_the_command_line():
    config = one()
    assert config.model.options["hidden"] == () and config.reset_optimizer
    assert (config.training.iterations, config.optimizer.options["lr"]) == (500, 0.01)
    assert one("model=mlp").model.options["hidden"] == (32, 32)
    assert one("scenario.dimensions=2").model.options["hidden"] == (16,)
    config = one("training.epochs=3", "optimizer.lr=0.5", "model.hidden=[7]")
    assert config.training.iterations is None and config.training.epochs == 3
    assert config.optimizer.options["lr"] == 0.5
    assert config.model.options["hidden"] == (7,)
    matched = one("model=mlp", "match=params")
    assert matched.match_to.options["hidden"] == ()
    assert matched.model.options["hidden"] == (32, 32)
    (images,) = read_request([], sweep=False).configs
    assert images.training.iterations is None  # other scenarios keep theirs


def test_a_comparison_of_regressions_is_laid_side_by_side(capsys):
    words = ["training.iterations=3", "tensorboard=none", "device=cpu", "-q"]
    assert main(["compare", PEAKS, *words]) == 0
    out = capsys.readouterr().out
    assert "KAN - MLP" in out and "tensorboard" not in out
    (table,) = Path("logs").glob("comparisons/*/comparison.md")
    assert "| average RMSE | learning RMSE | old peaks' increase |" in table.read_text()


def test_the_protocol_in_small(capsys):
    rows = ["--rows", "mlp,g5,kan-2d", "--seeds", "1", "training.iterations=1"]
    assert main(["reproduce", "gaussian-peaks", *rows, "device=cpu"]) == 0
    text = Path("docs/results/gaussian-peaks.md").read_text()
    assert text.count("| shown |") == 3 and "NOT the protocol" in text
    assert text.count("shown") == 3 and capsys.readouterr().out.count("shown") == 6
    figures = {path.name for path in Path("logs/gaussian-peaks").iterdir()}
    assert figures == {
        "learned_functions.png",
        "learned_functions_2d.png",
        "phase_diagram.png",
    }


@pytest.mark.proof
def test_the_protocol_holds():
    assert main(["reproduce", "gaussian-peaks", "--seeds", "1", "device=cpu"]) == 0
    assert (
        Path("docs/results/gaussian-peaks.md").read_text().count("| PASS |") == 5
    )  # every gate
