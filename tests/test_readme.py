"""Every Python example in the README runs, and its names of things exist."""

import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kancl.benchmarks import SCENARIOS
from kancl.models import MODELS
from kancl.reporting.events import TAGS, TAGS_OF_GROUPS, TAGS_ON_REQUEST
from kancl.runner.registry import OPTIMIZERS
from kancl.runner.request.experiments import experiment_names
from kancl.strategies import GROUP, STRATEGIES

README = (Path(__file__).parents[1] / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
CUT = ["scenario.train_samples=40", "scenario.test_samples=20", "evaluation.samples=10"]


def param(example: str) -> Any:
    """An example; those that make whole runs take a minute."""
    marks = [pytest.mark.proof] if "kancl.run(" in example else []
    return pytest.param(example, marks=marks)


@pytest.fixture
def restored() -> Iterator[None]:
    """What examples add to the dicts of builders is gone again after the test."""
    registries = (SCENARIOS, MODELS, STRATEGIES)
    before = [dict(registry) for registry in registries]
    yield
    for registry, entries in zip(registries, before):
        registry.clear()
        registry.update(entries)  # type: ignore[arg-type]


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize(
    "example", list(map(param, EXAMPLES)), ids=range(len(EXAMPLES))
)
def test_example_runs(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "example.py"
    script.write_text(example)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(script), *CUT])
    extends = "main([" in example
    if not extends:
        runpy.run_path(str(script), run_name="__main__")
        return
    assert len(example.splitlines()) < 40
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    assert end.value.code == 0
    (summary,) = tmp_path.glob("logs/*/*/*/summary.json")
    assert '"status": "completed"' in summary.read_text()


@pytest.mark.parametrize(
    ("group", "names"),
    [  # as they are before any test registers its own
        ("scenario", list(SCENARIOS)),
        ("model", list(MODELS)),
        ("strategy", list(GROUP.names)),
        ("optimizer", list(OPTIMIZERS)),
        ("experiment", list(experiment_names())),
    ],
)
def test_every_name_is_in_the_table(group: str, names: list[str]) -> None:
    (row,) = re.findall(rf"^\| `{group}=` \|(.*)$", README, re.MULTILINE)
    for name in names:
        assert f"`{name}`" in row, name


def test_every_tag_is_explained() -> None:
    for tag, meaning in {**TAGS, **TAGS_ON_REQUEST, **TAGS_OF_GROUPS}.items():
        assert f"| `{tag}` | {meaning} |" in README
