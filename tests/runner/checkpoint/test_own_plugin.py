"""A plugin that a user defines in a script of their own: killed, resumed, the same bytes."""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
from pathlib import Path

import pytest

from tests.processes import exit_code, forked

SCRIPT = '''
"""Train with a plugin of my own, which scales gradients by what it has seen so far."""
import os, signal, sys
import torch
from avalanche.training.plugins import SupervisedPlugin
from kancl.cli import main
from kancl.plugins import Plugin, Stage
from kancl.strategies import STRATEGIES

class Mine:
    def begin(self):
        self.n, self.total = 0, torch.zeros(3)

    def after_backward(self, strategy, **kwargs):
        self.n += 1
        self.total = self.total + strategy.loss.detach()
        for p in strategy.model.parameters():
            p.grad = p.grad / (1 + self.n * 1e-3 + self.total.mean())
        if self.n == int(os.environ.get("KILL_AT", 0)):
            os.kill(os.getpid(), signal.SIGKILL)

class Declared(Mine, Plugin):
    """Scale gradients by a counter and a running loss, both declared."""
    stage = Stage.STEP
    state = ("n", "total")

    def __init__(self) -> None:
        super().__init__()
        self.begin()

class Foreign(Mine, SupervisedPlugin):
    """Scale gradients by a counter and a running loss, nothing declared."""

    def __init__(self) -> None:
        super().__init__()
        self.begin()

class Unkeepable(Foreign):
    """Hold what no state can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.source = iter(range(10**9))

for kind in (Declared, Foreign, Unkeepable):
    STRATEGIES[kind.__name__.lower()] = [kind]
sys.exit(main(sys.argv[1:]))
'''
WORDS = (
    *"run scenario.train_samples=48 scenario.test_samples=20 training.batch_size=8".split(),
    *"scenario.n_experiences=2 model=mlp model.hidden=[4] tensorboard=none".split(),
    *"training.epochs=2 device=cpu keep_model=true evaluation.samples=10".split(),
)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    script = tmp_path / "mine.py"
    script.write_text(SCRIPT)
    return script


def start(script: Path, *words: str, kill_at: int = 0) -> int:
    """The exit code of the script in a process of its own; minus a signal."""

    def run() -> None:
        os.chdir(script.parent)
        os.environ |= {"KILL_AT": str(kill_at), "COLUMNS": "200"}
        sys.argv = [str(script), *WORDS, *words]
        runpy.run_path(str(script), run_name="__main__")

    return exit_code(forked(run))


@pytest.mark.parametrize(
    "kind",
    [
        "declared",
        pytest.param("foreign", marks=pytest.mark.proof),
        pytest.param("declared+ewc", marks=pytest.mark.proof),
    ],
)
def test_killed_inside_an_experience_it_ends_with_the_same_bytes(
    mine: Path, kind: str
) -> None:
    every = "checkpoint.every_iterations=4"
    assert start(mine, f"strategy={kind}", "log_dir=whole") == 0
    words = (f"strategy={kind}", "log_dir=killed", every)
    assert start(mine, *words, kill_at=18) == -signal.SIGKILL
    assert start(mine, *words) == 0
    folders = [next((mine.parent / n).glob("*/*/*")) for n in ("whole", "killed")]
    environment = json.loads((folders[1] / "env.json").read_text())
    assert environment["resumed_at_iterations"] == [16]
    for name in ("model.pt", "metrics.csv", "accuracy_matrix.csv"):
        one, other = ((folder / name).read_bytes() for folder in folders)
        assert one == other, name


def test_what_cannot_be_kept_is_said_before_training(
    mine: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The run is made without checkpoints."""
    words = ("strategy=unkeepable", "checkpoint.every_iterations=4")
    assert start(mine, *words, kill_at=9) == -signal.SIGKILL
    said = " ".join(capfd.readouterr().out.split())
    assert "can't be resumed: Unkeepable.source is an iterator" in said
    assert not list(mine.parent.glob("logs/*/*/*/checkpoint/*"))
