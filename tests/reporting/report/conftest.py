"""Run folders as the runner writes them, with outcomes planted instead of trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from kancl.config import RunConfig, plain
from kancl.metrics.score_matrix import ACCURACY, RMSE, empty_matrix, summarise
from kancl.runner.identity import environment, run_folder
from kancl.runner.request.compose import read_request
from kancl.runs import RunFolder
from tests.runner.conftest import make_run  # noqa: F401  (a fixture)

N = 3
ITERATIONS = 10
Outcome = Callable[[Any], Any]


def planted(learned: float, kept: float) -> torch.Tensor:
    """The matrix of a run that learns every experience to ``learned`` and keeps
    ``kept`` of it, ``(N + 1, N)``.
    """
    matrix = empty_matrix(N)
    for row in range(N + 1):
        for column in range(N):
            if row <= column:
                matrix[row, column] = 0.1
            else:
                matrix[row, column] = learned if row == column + 1 else kept
    for k in range(N):
        matrix[k + 1, k] = learned
    return matrix


def measurements(
    matrix: torch.Tensor, score: str
) -> Iterator[tuple[int, int | None, str, float]]:
    """The series that belong to the matrix: evaluations, curves and training."""
    for row, accuracies in enumerate(matrix.tolist()):
        iteration = row * ITERATIONS
        if row:
            yield iteration, row - 1, "batch_loss", 0.5
            for k, accuracy in enumerate(accuracies):
                yield iteration - 5, k, f"curve_{score}", accuracy
        for k, accuracy in enumerate(accuracies):
            yield iteration, k, f"curve_{score}", accuracy
            yield iteration, k, f"test_{score}", accuracy
            yield iteration, k, "test_loss", 1.0


def plant_runs(log_dir: Path, *overrides: str, outcome: Outcome) -> list[Path]:
    """A folder per run of a sweep.

    Args:
        outcome: ``(learned, kept)`` of a configuration, or the status it ends with.
    """
    configs = [replace(c, log_dir=str(log_dir)) for c in _configs(overrides)]
    return [write(config, outcome(config)) for config in configs]


@cache
def _configs(overrides: tuple[str, ...]) -> tuple[RunConfig, ...]:
    regression = "scenario=gaussian_peaks" in overrides
    words = [*overrides] if regression else ["scenario.n_experiences=3", *overrides]
    return tuple(read_request(words, sweep=True).configs)


@pytest.fixture
def plant(tmp_path: Path) -> Callable[..., list[Path]]:
    """``plant("model=kan,mlp", "seed=range(5)", outcome=f)`` below ``tmp_path``."""

    def make(*overrides: str, outcome: Outcome, log_dir: Path = tmp_path) -> list[Path]:
        return plant_runs(log_dir, *overrides, outcome=outcome)

    return make


def write(config: Any, outcome: Any) -> Path:
    folder = RunFolder(run_folder(config))
    folder.start(plain(config), environment(torch.device("cpu")))
    summary: dict[str, Any] = {
        "scenario": f"{config.scenario.name}-class",
        "n_experiences": N,
        "model": config.model.name,
        "strategy": config.strategy.name,
        "seed": config.seed,
        "hidden": [16],
        "n_parameters": 1000 if config.model.name == "kan" else 1010,
        "flops": 2000,
    }
    if isinstance(outcome, str):
        if outcome != "unfinished":
            summary |= {"status": outcome, "error": "Diverged: the loss is nan"}
            folder.write_json("summary.json", summary)
        return folder.path
    matrix = planted(*outcome)
    score = RMSE if config.scenario.name == "gaussian_peaks" else ACCURACY
    folder.write_matrix(matrix, score.name)
    folder.write_metrics(measurements(matrix, score.name))
    summary |= {"status": "completed", **summarise(matrix, score)}
    summary |= {"n_iterations": N * ITERATIONS, "train_seconds": 2.0}
    folder.write_json("summary.json", summary)
    return folder.path


def edit(folder: Path, **changes: Any) -> None:
    """Change keys of a run's summary."""
    path = folder / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
