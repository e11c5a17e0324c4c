"""Runs small enough to make many of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from kancl.runner.identity import run_folder
from kancl.runner.request.compose import read_request
from kancl.runner.run import run

SMALL = (
    "scenario.train_samples=48",
    "scenario.test_samples=20",
    "training.batch_size=16",
    "evaluation.samples=10",
    "evaluation.points_per_experience=2",
    "model.hidden=[4]",
    "tensorboard=none",
    "device=cpu",
)

MakeRun = Callable[..., tuple[dict[str, Any], Path]]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Make a small run of these overrides: its summary and its folder."""

    def make(*overrides: str, log_dir: Path = tmp_path) -> tuple[dict[str, Any], Path]:
        words = [*SMALL, f"log_dir='{log_dir}'", *overrides]
        (config,) = read_request(words, sweep=False).configs
        summary = run(config, console=Console(quiet=True))
        return summary, run_folder(config)

    return make
