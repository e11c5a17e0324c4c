"""A run goes on only where the same code would compute the same bytes."""

from __future__ import annotations

import importlib
import importlib.util
import json
import linecache
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kancl.cli import main
from kancl.models import MODELS
from kancl.runner.identity import _code_behind, own, provenance, tell_code
from kancl.runner.request.compose import read_request
from kancl.strategies import STRATEGIES


def test_everything_that_decides_a_byte_is_in_it() -> None:
    (config,) = read_request(["model=mlp"], sweep=False).configs
    expected = provenance(config)
    assert provenance(replace(config, log_dir="elsewhere", overwrite=True)) == expected
    for changed in (replace(config, seed=1), replace(config, data_dir="x")):
        assert provenance(changed) != expected


def test_a_model_of_ones_own_is_known_by_its_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    source = (
        "from kancl.models import MLP\n"
        "def mine(n_in, n_out, *, input_range=(0, 1), wide: bool = False):\n"
        "    return MLP([n_in, 4, n_out])\n"
    )
    found = []
    for text in (source, source, source + "# changed\n"):
        file.write_text(text)
        spec = importlib.util.spec_from_file_location("mine", file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        MODELS["mine"] = module.mine
        try:
            (config,) = read_request(["model=mine"], sweep=False).configs
            found.append(provenance(config))
        finally:
            del MODELS["mine"]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("quiet", [[], ["-q"]])
def test_edited_code_is_never_answered_with_old_numbers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    quiet: list[str],
) -> None:
    """A plugin in one file, its base class in another, as new processes would read them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    helper = tmp_path / "own_helper.py"
    (tmp_path / "own_plugin.py").write_text(
        "import torch\n"
        "from own_helper import Base\n"
        "class Mine(Base):\n"
        '    """Mine."""\n'
    )
    words = ["run", *quiet, "strategy=mine", "model=mlp", "model.hidden=[4]"]
    words += ["tensorboard=none", "evaluation.samples=0", "scenario.n_experiences=2"]
    words += ["scenario.train_samples=20", "scenario.test_samples=10"]
    said, numbers = [], []
    for rate in (1, 1, 2):
        helper.write_text(
            "from kancl.plugins import Plugin\n"
            "class Base(Plugin):\n"
            "    def before_backward(self, strategy, **kwargs):\n"
            f"        strategy.loss *= {rate}\n"
        )
        for name in ("own_plugin", "own_helper"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        mine = importlib.import_module("own_plugin").Mine
        monkeypatch.setitem(STRATEGIES, "mine", [mine])
        assert main(words) == 0
        said.append(capsys.readouterr().out)
        runs = Path("logs/split_mnist-class/mlp-mine").iterdir()
        numbers.append({run.name: (run / "metrics.csv").read_text() for run in runs})
    assert numbers[0] == numbers[1] and [len(found) for found in numbers] == [1, 1, 2]
    first, second = numbers[2].values()
    assert first != second
    if not quiet:
        assert "completed before, skipped" in said[1]
        assert (
            f"own_helper.py changed since {[*numbers[0]][0]}: trained anew" in said[2]
        )
    environment = json.loads(
        (next(Path("logs").glob("*/*/*")) / "env.json").read_text()
    )
    assert sorted(environment["own"]) == ["own_helper.py", "own_plugin.py"]


def test_code_without_a_file_is_known_by_its_source_or_to_nobody_else() -> None:
    space: dict[str, Any] = {"__name__": "__nowhere__"}
    exec("from kancl.models import MLP\ndef mine(n, m): return MLP([n, 4, m])", space)
    first, other = _code_behind(space["mine"]), _code_behind(space["mine"])
    assert first == other and list(first) == ["mine"]
    exec("def again(n, m): return MLP([n, 4, m])", space)
    assert _code_behind(space["again"])["again"] != first["mine"]


def test_images_that_nobody_publishes_a_checksum_of_count(tmp_path: Path) -> None:
    words = ["scenario.dataset=emnist", f"data_dir='{tmp_path}'"]
    (config,) = read_request(words, sweep=False).configs
    assert own(config) == {}
    raw = tmp_path / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    names = [
        f"emnist-balanced-{split}-{kind}-ubyte"
        for split in ("test", "train")
        for kind in ("images-idx3", "labels-idx1")
    ]
    for name in names:
        (raw / name).write_bytes(b"1")
    before = own(config)
    assert [*before] == names
    (raw / names[0]).write_bytes(b"23")
    changed = {name for name in names if own(config)[name] != before[name]}
    assert changed == {names[0]}


def npz(path: Path, shift: float) -> None:
    y = np.arange(60) % 3
    x = np.random.default_rng(0).random((60, 5)) + shift
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)


@pytest.mark.parametrize("quiet", [[], ["-q"]])
def test_changed_data_are_never_answered_with_old_numbers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    quiet: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["run", *quiet, "scenario=arrays", "scenario.file=a.npz", "model=mlp"]
    words += ["scenario.n_experiences=3", "model.hidden=[4]", "tensorboard=none"]
    words += ["evaluation.samples=0"]
    said, made = [], []
    for name, shift in (("a", 0), ("a", 0), ("b", 0), ("a", 2), ("a", 0)):
        npz(tmp_path / f"{name}.npz", shift)
        assert main([w.replace("a.npz", f"{name}.npz") for w in words]) == 0
        said.append(capsys.readouterr().out)
        made.append({p.name for p in Path("logs/arrays-class/mlp-naive").iterdir()})
    # b.npz holds what a.npz did, so is the same
    assert list(map(len, made)) == [1, 1, 1, 2, 2]
    (old,) = made[0]
    if not quiet:
        assert "completed before, skipped" in said[1] and "skipped" in said[2]
        assert f"scenario.file changed since {old}: trained anew" in said[3]
        assert "changed since" not in said[0] and "skipped" in said[4]
    numbers = [
        (p / "metrics.csv").read_text()
        for p in Path("logs").glob("*/*/*")
        if p.is_dir()
    ]
    assert len(numbers) == len({*numbers}) == 2


def test_a_class_of_a_notebook_is_known_by_what_it_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Functions of a cell have their source in linecache; classes have none."""

    def cell(number: int, base: int, factor: int) -> Any:
        text = (
            "from dataclasses import dataclass\n"
            "from kancl.plugins import Plugin\n"
            f"class Base(Plugin):\n    x = {base}\n"
            "@dataclass(kw_only=True, eq=False)\n"
            "class Mine(Base):\n"
            "    rate: float = 0.5\n"
            "    def before_backward(self, strategy, **kwargs):\n"
            f"        strategy.loss *= {factor}\n"
        )
        name = f"<cell {number}>"
        linecache.cache[name] = len(text), None, text.splitlines(True), name
        notebook = types.ModuleType("__notebook__")
        monkeypatch.setitem(sys.modules, "__notebook__", notebook)
        exec(compile(text, name, "exec"), vars(notebook))
        return dict(_code_behind(vars(notebook)["Mine"]))

    first, again, other_base, other_hook = (
        cell(0, 1, 1),
        cell(1, 1, 1),
        cell(2, 2, 1),
        cell(3, 1, 2),
    )
    assert first == again and list(first) == ["Mine"]
    assert first != other_base != other_hook != first


def test_a_worker_knows_own_code_by_what_it_was_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A class of a script comes to other processes without the script's file."""
    space: dict[str, Any] = {"__name__": "__nowhere__"}
    exec("from kancl.models import MLP\ndef mine(n, m): return MLP([n, 4, m])", space)
    monkeypatch.setitem(MODELS, "mine", space["mine"])
    tell_code(space["mine"], {"script.py": "0123456789abcdef"})
    (config,) = read_request(["model=mine"], sweep=False).configs
    assert own(config) == {"script.py": "0123456789abcdef"}
