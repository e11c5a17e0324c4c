"""Real small runs: what they write, that they repeat to the byte, and how they fail."""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kancl.runner.build import build_benchmark
from kancl.runner.identity import environment, run_folder
from kancl.runner.request.compose import read_request
from kancl.runner.run import _Run, run
from kancl.runner.studies.sweep import execute
from kancl.strategies import GROUP, STRATEGIES

MakeRun = Callable[..., tuple[dict[str, Any], Path]]
BYTES = ("accuracy_matrix.csv", "metrics.csv", "model.pt", "config.yaml")


def read_matrix(folder: Path, name: str = "accuracy_matrix.csv") -> list[list[float]]:
    with (folder / name).open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    return [[float(cell or "nan") for cell in row[1:]] for row in rows]


def test_the_run_folder(make_run: MakeRun, tmp_path: Path) -> None:
    summary, folder = make_run("keep_model=true", "tensorboard=numbers")
    assert folder.parent == tmp_path / "split_mnist-class" / "kan-naive"
    assert re.fullmatch(r"seed0-hidden=4-[\w=-]+-[0-9a-f]{8}", folder.name)
    names = {path.name for path in folder.iterdir() if path.is_file()}
    events = {name for name in names if name.startswith("events.out.tfevents")}
    assert len(events) == 1
    assert names - events == {
        "config.yaml",
        "env.json",
        "accuracy_matrix.csv",
        "metrics.csv",
        "summary.json",
        "model.pt",
    }
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert (
        summary["status"] == "completed" and summary["scenario"] == "split_mnist-class"
    )
    assert summary["n_iterations"] == 5 * 3  # 48 images in batches of 16
    # In so few iterations little is won back; the summary then says that none was.
    assert summary["undefined"].keys() <= {"recovery_iterations"}
    r = read_matrix(folder)
    assert [len(row) for row in r] == [5] * 6
    n = range(5)
    assert summary["average_accuracy"] == pytest.approx(sum(r[5]) / 5)
    assert summary["learning_accuracy"] == pytest.approx(
        sum(r[j + 1][j] for j in n) / 5
    )
    falls = [max(r[i][j] for i in range(1, 5)) - r[5][j] for j in range(4)]
    assert summary["forgetting"] == pytest.approx(sum(falls) / 4)
    state = torch.load(folder / "model.pt", weights_only=True)
    assert sum(v.numel() for k, v in state.items() if "grid" not in k) == (
        summary["n_parameters"]
    )
    assert summary["hidden"] == [4] and summary["off_grid_share"][0] == 0.0
    assert len(summary["off_grid_share"]) == 2


def test_the_series_hold_the_matrix(make_run: MakeRun) -> None:
    summary, folder = make_run()
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    matrix = read_matrix(folder)
    for j in range(5):
        column = [
            float(row["value"])
            for row in rows
            if row["name"] == "test_accuracy"
            and row["experience"] == f"experience_{j + 1}"
        ]
        assert column == [row[j] for row in matrix]
    names = {row["name"] for row in rows}
    assert {"curve_accuracy", "batch_loss", "off_grid_share_layer_1"} <= names
    assert max(int(row["iteration"]) for row in rows) == summary["n_iterations"]


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=kan", "strategy=naive"],
        ["model=mlp", "model.dropout=0.5", "training.epochs=2"],
        [
            "model=mlp",
            "strategy=replay",
            "strategy.mem_size=30",
            "scenario.head=growing",
        ],
        ["strategy=ewc", "scenario.incremental=task", "training.iterations=5"],
    ],
)
def test_same_seed_same_bytes(
    make_run: MakeRun, tmp_path: Path, overrides: list[str]
) -> None:
    words = [*overrides, "keep_model=true", "scenario.n_experiences=2"]
    _, first = make_run(*words, log_dir=tmp_path / "a")
    torch.manual_seed(123)  # what came before does not matter
    _, second = make_run(*words, log_dir=tmp_path / "b")
    _, other = make_run(*words, "seed=1", log_dir=tmp_path / "b")
    assert first.name == second.name
    for name in BYTES[:3]:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
        assert (first / name).read_bytes() != (other / name).read_bytes(), name


def test_deterministic_algorithms_are_asked_for_by_run(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    train = _Run._train

    def watched(run: _Run) -> None:
        asked.append(torch.are_deterministic_algorithms_enabled())
        train(run)

    monkeypatch.setattr(_Run, "_train", watched)
    words = ["model=kan_local", "strategy=gram", "keep_model=true"]
    words.append("scenario.n_experiences=2")
    _, plain = make_run(*words, log_dir=tmp_path / "a")
    _, strict = make_run(*words, "deterministic=true", log_dir=tmp_path / "b")
    assert not torch.are_deterministic_algorithms_enabled()  # as it was found
    make_run("scenario.n_experiences=2", log_dir=tmp_path / "c")
    assert asked == [False, True, False]
    assert plain.name == strict.name
    for name in BYTES[:3]:
        assert (plain / name).read_bytes() == (strict / name).read_bytes(), name


class _Witness(SupervisedPlugin):
    """Remembers which images and labels were trained on, in order."""

    made: ClassVar[list[_Witness]] = []

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[torch.Tensor] = []
        self.made.append(self)

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        places = torch.arange(784.0)  # a sum alone would not see a permutation
        self.batches.append(
            torch.cat([strategy.mb_x.flatten(1) @ places, strategy.mb_y])
        )


@pytest.fixture
def witnesses() -> Iterator[list[_Witness]]:
    naive = STRATEGIES["naive"]
    STRATEGIES["naive"] = [*naive, _Witness]
    _Witness.made.clear()
    yield _Witness.made
    STRATEGIES["naive"] = naive


def test_models_of_one_seed_see_the_same_batches(
    make_run: MakeRun, witnesses: list[_Witness]
) -> None:
    words = ["training.epochs=2", "scenario.class_order=random", "seed=3"]
    words.append("scenario.n_experiences=2")
    make_run("model=kan", *words)
    make_run("model=mlp", "model.hidden=[7,7]", *words)
    make_run("model=mlp", "model.dropout=0.5", *words)  # draws numbers while training
    make_run("model=mlp", *words, "seed=4")
    kan, mlp, dropped, other = (torch.cat(w.batches) for w in witnesses)
    assert torch.equal(kan, mlp) and torch.equal(kan, dropped)
    assert not torch.equal(kan, other)


def test_pairing_holds_over_permutations_and_reshuffles(
    make_run: MakeRun, witnesses: list[_Witness]
) -> None:
    words = ["scenario=permuted_mnist", "scenario.n_experiences=2", "seed=3"]
    words += ["scenario.permute_first=true", "training.iterations=8"]  # 3 in an epoch
    make_run("model=kan", *words)
    make_run("model=mlp", "model.dropout=0.5", *words)
    kan, mlp = (torch.cat(w.batches) for w in witnesses)
    assert len(kan) == 2 * 8 * (16 + 16) and torch.equal(kan, mlp)


def test_a_completed_run_is_skipped_and_overwritten_on_demand(
    make_run: MakeRun,
) -> None:
    summary, folder = make_run("scenario.n_experiences=2")
    (folder / "metrics.csv").write_text("mark")
    assert make_run("scenario.n_experiences=2", "device=auto")[0] == summary
    assert (folder / "metrics.csv").read_text() == "mark"
    again, _ = make_run("scenario.n_experiences=2", "overwrite=true")
    assert (folder / "metrics.csv").read_text() != "mark"
    assert again["average_accuracy"] == summary["average_accuracy"]


def test_a_diverged_run_is_marked_and_made_again(make_run: MakeRun) -> None:
    words = ["model=mlp", "optimizer=sgd", "optimizer.lr=1e30", "tensorboard=numbers"]
    summary, folder = make_run(*words)
    assert summary["status"] == "diverged" and "Diverged" in summary["error"]
    assert summary["average_accuracy"] is None
    assert "was not measured" in summary["undefined"]["average_accuracy"]
    assert "Traceback" in (folder / "error.txt").read_text()
    assert len(read_matrix(folder)) == 6 and not math.isnan(read_matrix(folder)[0][0])
    (folder / "error.txt").unlink()
    make_run(*words)
    assert (folder / "error.txt").exists()


def test_a_failed_run_keeps_its_traceback(make_run: MakeRun) -> None:
    class Broken(SupervisedPlugin):
        """Break at the first step."""

        def after_update(self, strategy: Any, **kwargs: Any) -> None:
            raise RuntimeError("the plugin broke")

    naive = STRATEGIES["naive"]
    STRATEGIES["naive"] = [*naive, Broken]
    try:
        summary, folder = make_run()
    finally:
        STRATEGIES["naive"] = naive
    assert summary["status"] == "failed"
    assert summary["error"] == "RuntimeError: the plugin broke"
    assert "the plugin broke" in (folder / "error.txt").read_text()
    summary, folder = make_run()
    assert summary["status"] == "completed" and not (folder / "error.txt").exists()


def test_joint_trains_once_and_says_what_is_undefined(make_run: MakeRun) -> None:
    summary, folder = make_run("strategy=joint", "training.iterations=6")
    assert summary["n_iterations"] == 6
    matrix = read_matrix(folder)
    measured = [not any(map(math.isnan, row)) for row in matrix]
    assert measured == [True, False, False, False, False, True]
    assert (
        summary["forgetting"] is None
        and "jointly" in summary["undefined"]["forgetting"]
    )


@pytest.mark.parametrize("incremental", ["class", "domain", "task"])
@pytest.mark.parametrize("model", ["kan", "mlp"])
def test_validation_is_measured_beside_the_test(
    make_run: MakeRun, model: str, incremental: str
) -> None:
    summary, folder = make_run(
        f"model={model}",
        f"scenario.incremental={incremental}",
        "scenario.validation=0.01",
        "scenario.n_experiences=2",
    )
    test, validation = (
        read_matrix(folder, name)
        for name in ("accuracy_matrix.csv", "validation_matrix.csv")
    )
    assert len(validation) == len(test) == 3 and validation != test
    assert not any(math.isnan(value) for row in test + validation for value in row)
    assert summary["validation_accuracy"] == pytest.approx(sum(validation[-1]) / 2)


def test_evaluating_each_epoch_changes_no_matrix(make_run: MakeRun) -> None:
    words = [
        "scenario.validation=0.01",
        "scenario.n_experiences=2",
        "training.epochs=2",
    ]
    _, plain = make_run(*words)
    _, each = make_run(*words, "evaluation.each_epoch=true")
    for name in ("accuracy_matrix.csv", "validation_matrix.csv"):
        assert read_matrix(plain, name) == read_matrix(each, name)


def test_a_growing_head_has_no_row_before_training(make_run: MakeRun) -> None:
    summary, folder = make_run("scenario.head=growing")
    matrix = read_matrix(folder)
    assert all(map(math.isnan, matrix[0])) and matrix[1][1:] == [0.0] * 4
    assert summary["forward_transfer"] is None and summary["forgetting"] is not None
    single, _ = make_run("scenario.head=single")
    assert summary["n_parameters"] == single["n_parameters"]
    assert summary["flops"] == single["flops"]


def test_learning_rate_decay_starts_anew_with_each_experience(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    step = torch.optim.SGD.step

    def spy(self: torch.optim.SGD, *args: Any, **kwargs: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    make_run(
        *"model=mlp optimizer=sgd optimizer.lr=0.1 training.lr_gamma=0.5".split(),
        *"training.epochs=3 training.batch_size=48 scenario.n_experiences=2".split(),
    )
    assert rates == [0.1, 0.05, 0.025] * 2


def test_learning_rates_of_a_linear_schedule(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    step = torch.optim.SGD.step

    def spy(self: torch.optim.SGD, *args: Any, **kwargs: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    make_run(
        *"model=mlp optimizer=sgd optimizer.lr=8 optimizer.schedule=linear".split(),
        *"training.epochs=2 training.batch_size=24 scenario.n_experiences=2".split(),
    )
    assert rates == [8, 6, 4, 2] * 2  # 48 images: two batches an epoch, two epochs


def test_environment_tells_no_names() -> None:
    found = environment(torch.device("cpu"))
    assert set(found) >= {"kancl", "commit", "python", "torch", "avalanche", "threads"}
    assert not any("/" in str(value) for value in found.values())


ON_SPLINES = {"spline_bayes", "lazy", "freeze_base", "hard_mask", "drift_penalty"}
ON_SPLINES |= {"grow_grids", "sparsity"}


@pytest.mark.parametrize("strategy", [s for s in GROUP.names if s != "der"])
def test_every_strategy_runs_with_a_head_per_experience(
    make_run: MakeRun, strategy: str
) -> None:
    """The heads are there before training, unlike in the strategies' own contract."""
    summary, folder = make_run(
        f"strategy={strategy}",
        "scenario.incremental=task",
        "scenario.n_experiences=2",
        "model=" + ("kan" if strategy in ON_SPLINES else "mlp"),
        "evaluation.samples=0",
    )
    assert summary["status"] == "completed", summary
    matrix = read_matrix(folder)
    assert not any(map(math.isnan, matrix[0] + matrix[-1]))


def test_runs_that_follow_a_check_have_the_bytes_of_lone_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []

    def counting(*arguments: Any) -> Any:
        built.append(arguments)
        return build_benchmark(*arguments)

    for module in ("kancl.runner.check", "kancl.runner.build"):
        monkeypatch.setattr(sys.modules[module], "build_benchmark", counting)
    words = [
        "scenario.train_samples=20",
        "scenario.test_samples=10",
        "model.hidden=[4]",
    ]
    words += ["scenario.class_order=random", "tensorboard=none", "keep_model=true"]
    words += ["seed=5,6"]
    console = Console(quiet=True)
    swept = read_request([*words, f"log_dir='{tmp_path / 'swept'}'"], sweep=True)
    execute(swept, console=console)
    assert len(built) == 2  # one per seed
    lone = read_request([*words, f"log_dir='{tmp_path / 'lone'}'"], sweep=True)
    for together, alone in zip(swept.configs, lone.configs):
        run(alone, console=console)
        for name in ("metrics.csv", "accuracy_matrix.csv", "model.pt"):
            bytes_of = [(run_folder(c) / name).read_bytes() for c in (together, alone)]
            assert bytes_of[0] == bytes_of[1], name


def test_a_readout_costs_what_took_the_networks_place(make_run: MakeRun) -> None:
    for kind in ("class", "task"):
        summary, folder = make_run(
            "strategy=ridge_readout",
            "strategy.n_features=40",
            f"scenario.incremental={kind}",
            "keep_model=true",
        )
        assert summary["status"] == "completed"
        outputs = 10 if kind == "class" else 5 * 2  # a head of two per experience
        assert summary["n_parameters"] == (40 + 1) * outputs
        assert summary["flops"] == 2 * 40 * (784 + outputs)
        n_samples = summary["n_iterations"] * 16
        assert summary["training_flops"] == summary["flops"] * n_samples
        state = torch.load(folder / "model.pt", weights_only=True)
        assert state["network.projection.weight"].shape == (40, 784)


def test_a_run_tells_what_its_mask_leaves_free_and_how_its_grids_grow(
    make_run: MakeRun,
) -> None:
    _, folder = make_run(
        "model=kan_local",
        "model.hidden_control=none",
        "model.hidden_range=[-0.001,0.001]",
        "strategy=grow_grids+hard_mask",
        "strategy.off_grid=0.001",
        "tensorboard=numbers",
    )
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["experience"] == ""]
    free = [float(r["value"]) for r in rows if r["name"] == "locality_free_share_head"]
    assert len(free) == 5 and 0 <= min(free) <= max(free) < 1
    cells = [float(r["value"]) for r in rows if r["name"] == "locality_grid_size_head"]
    assert cells and cells[0] > 5
    accumulator = EventAccumulator(str(folder)).Reload()
    shown = accumulator.Scalars("locality/grid_size_head")
    assert [event.value for event in shown] == cells


def test_a_failure_while_results_are_written_is_written_down(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: Any) -> None:
        raise ValueError("Out of range float values are not JSON compliant")

    monkeypatch.setattr(sys.modules["kancl.runner.run"], "results", fails)
    summary, folder = make_run("tensorboard=none", "scenario.n_experiences=2")
    assert summary["status"] == "failed"
    assert "results could not be written: ValueError: Out of" in summary["error"]
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert "Traceback" in (folder / "error.txt").read_text()
