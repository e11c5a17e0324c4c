"""Every Python example in the README runs, and its names of things exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from kancl.benchmarks import SCENARIOS
from kancl.models import MODELS
from kancl.runner.optimizers import OPTIMIZERS
from kancl.strategies import STRATEGIES

README = (Path(__file__).parents[1] / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
CUT = ["scenario.train_samples=40", "scenario.test_samples=20", "evaluation.samples=10"]


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_example_runs(example: str, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(example)
    extends = "main([" in example
    assert not extends or len(example.splitlines()) < 40
    done = subprocess.run(
        [sys.executable, script, *(CUT if extends else [])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "logs").exists() == extends


@pytest.mark.parametrize(
    ("group", "builders"),
    [
        ("scenario", SCENARIOS),
        ("model", MODELS),
        ("strategy", STRATEGIES),
        ("optimizer", OPTIMIZERS),
    ],
)
def test_every_name_is_in_the_table(group: str, builders: dict[str, object]) -> None:
    (row,) = re.findall(rf"^\| `{group}=` \|(.*)$", README, re.MULTILINE)
    for name in builders:
        assert f"`{name}`" in row, name
