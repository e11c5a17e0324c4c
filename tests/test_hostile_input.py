"""Whatever comes in wrong ends in one clear sentence, and harms nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kancl.cli import main
from kancl.config import ConfigError, RunConfig, plain, typed
from kancl.data.images import load_images
from kancl.models import KAN, MLP
from kancl.runner.registry import GROUPS
from kancl.runner.request.compose import read_folder, read_request

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def good() -> dict[str, Any]:
    """A configuration that is all right."""
    words = ["model=mlp", "model.hidden=[4]", "scenario.train_samples=20"]
    (config,) = read_request(words, sweep=False).configs
    return plain(config)


def refused(arguments: list[str], culprit: str, capsys: Capture) -> None:
    """One sentence on standard error that names the culprit, exit code 2, no file."""
    before = {path for path in Path.cwd().rglob("*")}
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert culprit in said
    assert said.startswith("kancl: ") and said.count("\n") == 1, said
    assert len(said) < 1000 and "Traceback" not in said
    assert {path for path in Path.cwd().rglob("*")} == before


# values of a configuration

VALUES: list[tuple[str, Any]] = [
    ("seed", -1),
    ("seed", 1.5),
    ("seed", True),
    ("seed", "zero"),
    ("seed", [1]),
    ("seed", float("nan")),
    ("seed", float("inf")),
    ("threads", 0),
    ("threads", "all"),
    ("threads", 10**6),
    ("deterministic", 1),
    ("device", "gpu"),
    ("device", ""),
    ("match", "parms"),
    ("match_to", "../../kan"),
    ("tensorboard", True),
    ("overwrite", "yes"),
    ("log_dir", None),
    ("log_dir", {"a": 1}),
    ("keep_model", 2),
    ("training.epochs", 0),
    ("training.epochs", -3),
    ("training.epochs", 10**400),
    ("training.iterations", 0),
    ("training.batch_size", 0),
    ("training.batch_size", None),
    ("training.batch_size", 0.5),
    ("training.lr_gamma", float("-inf")),
    ("evaluation.samples", -1),
    ("evaluation.each_epoch", "no"),
    ("checkpoint.every_seconds", -1),
    ("checkpoint.every_seconds", float("nan")),
    ("checkpoint.every_seconds", float("inf")),
    ("checkpoint.every_iterations", 0),
    ("checkpoint.keep", None),
    ("model.hidden", 4),
    ("model.hidden", ["a"]),
    ("model.hidden", None),
    ("model.name", "os.system"),
    ("model.name", None),
    ("model.name", ["mlp"]),
    ("model._target_", "os.system"),
    ("model.__class__", 1),
    ("model.höhe", 1),
    ("optimizer.lr", "fast"),
    ("optimizer.lr", float("nan")),
    ("optimizer.lr", [0.1]),
    ("scenario.incremental", "klasse"),
    ("scenario.normalize", "\x00"),
    ("scenario.train_samples", "many"),
    ("scenario", ["split_mnist"]),
    ("strategy.name", "naïve"),
    ("strategy", []),
    ("\u202etraining", 1),
    ("training.epochs.deep", 1),
    ("data_dir", 3.5j),
]


@pytest.mark.parametrize(("key", "value"), VALUES, ids=lambda part: repr(part)[:30])
def test_wrong_values(good: dict[str, Any], key: str, value: Any) -> None:
    mapping = json.loads(json.dumps(good))
    inner = mapping
    *path, last = key.split(".")
    for part in path:
        if not isinstance(inner[part], dict):
            inner[part] = {}
        inner = inner[part]
    inner[last] = value
    with pytest.raises(ConfigError) as error:
        typed(mapping, GROUPS)
    said = str(error.value)
    shown = str(value)
    named = last if last != "name" else path[-1]
    assert named in said or (shown and shown in said), said
    assert "\n" not in said and len(said) < 1000


WORKLESS = [  # refused only when it is built, before anything is written
    ("model.hidden=[0]", "model.hidden takes list of int >= 1, not [0]"),
    ("model.hidden=[-4]", "model.hidden takes list of int >= 1, not [-4]"),
    ("scenario.train_samples=0", "train_samples"),
    ("scenario.n_experiences=11", "n_experiences=11"),
    ("scenario.n_experiences=0", "scenario.n_experiences must be at least 1, not 0"),
    ("data_dir=/dev/null", "/dev/null"),
    ("log_dir=/dev/null/logs", "/dev/null/logs"),
    ("log_dir=/proc/nowhere", "/proc/nowhere"),
    ("log_dir=", "log_dir= is empty"),
    ("scenario.head=growing model.hidden=[]", "nearest: scenario.head=single"),
    ("model.hidden=[10000000,10000000]", "GiB are free; nearest: model.hidden=["),
    ("scenario.pad=1000", "scenario.pad=1000 takes"),
    ("scenario.n_experiences=1000000", "scenario.n_experiences must be at most 1000,"),
    ("log_dir=" + "x" * 300, "xxx"),
    ("optimizer.lr=-1", "-1"),
]


@pytest.mark.parametrize(("words", "culprit"), WORKLESS, ids=lambda part: part[:30])
def test_what_cannot_work(words: str, culprit: str, capsys: Capture) -> None:
    small = [
        "scenario.train_samples=20",
        "scenario.test_samples=10",
        "model.hidden=[4]",
    ]
    refused(
        ["run", "model=mlp", *small, "tensorboard=none", *words.split()],
        culprit,
        capsys,
    )


# run folders

FILES: list[tuple[str, bytes]] = [
    ("is no YAML", b"a: [1"),
    ("is no YAML", b"\xff\xfe\x00binary"),
    ("is no YAML", b"model: {name: kan}\nmodel: {name: kan}"),
    ("holds no keys", b"!!python/object/apply:os.system ['touch pwned']"),
    ("is no YAML", b"seed: !!python/object/apply:os.system ['touch pwned']"),
    ("is no YAML", b"model: !!python/name:os.system ''"),
    (
        "is no YAML",
        b"x: !<tag:yaml.org,2002:python/object/new:os.system> [touch pwned]",
    ),
    ("holds no keys", b""),
    ("holds no keys", b"[1, 2]"),
    ("holds no keys", b"42"),
    ("YAML alias", b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]"),
    ("nested too deeply", b"a: " + b"[" * 20_000),
    ("too large", b"a: " + b"x" * 200_000),
    ("is not resolved", b"log_dir: ${oc.env:HOME}"),
    ("scenario needs a name", b"model: {name: kan, _target_: os.system}"),
    ("needs a name", b"model: {}"),
    ("is not a key", b"modle: {name: kan}"),
    ("is not a key", b"1: 2"),
]


@pytest.mark.parametrize(
    ("culprit", "content"), FILES, ids=lambda part: repr(part)[:30]
)
def test_a_strangers_run_folder(culprit: str, content: bytes, capsys: Capture) -> None:
    Path("theirs").mkdir()
    Path("theirs/config.yaml").write_bytes(content)
    refused(["run", "--from", "theirs"], culprit, capsys)


def test_a_strangers_run_folder_does_not_say_where_runs_go(
    good: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    changes = {"log_dir": str(elsewhere), "overwrite": True, "loggers": ["wandb"]}
    theirs = yaml.safe_dump({**good, **changes, "data_dir": str(elsewhere)})
    here = tmp_path / "here"
    for folder in ("theirs", "kept/split_mnist-class/mlp-naive/seed0-x"):
        (here / folder).mkdir(parents=True)
        (here / folder / "config.yaml").write_text(theirs)
    monkeypatch.chdir(here)
    config = read_folder("theirs", [])
    assert (config.log_dir, config.overwrite, config.data_dir) == ("logs", False, None)
    assert config.loggers == ("tensorboard",)
    assert read_folder("kept/split_mnist-class/mlp-naive/seed0-x", []).log_dir == "kept"
    assert read_folder("theirs", ["log_dir=mine"]).log_dir == "mine"
    assert main(["run", "-q", "--from", "theirs", "tensorboard=none"]) == 0
    assert not elsewhere.exists() and list((here / "logs").glob("*/*/*/summary.json"))


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["run", "--from", "nowhere"], "nowhere"),
        (["run", "--from", "/dev/null"], "/dev/null"),
        (["status", "nowhere"], "nowhere"),
        (["status", "/dev/null"], "/dev/null"),
        (["report", "nowhere"], "nowhere"),
        (["report", "/dev/null"], "/dev/null"),
        (["reproduce", "../secrets"], "../secrets"),
        (["bench", "../layers"], "../layers"),
        (["läuft"], "läuft"),
        (["run", "--form", "x"], "--form"),
        (["list", "modles"], "modles"),
    ],
    ids=" ".join,
)
def test_commands(arguments: Any, culprit: str, capsys: Capture) -> None:
    refused(arguments, culprit, capsys)


def test_a_list_of_runs_cannot_lead_out_of_its_folder(capsys: Capture) -> None:
    Path("logs/sweeps").mkdir(parents=True)
    Path("logs/sweeps/good.json").write_text('{"runs": ["a/b/seed0-x"]}')
    for runs in (["../../etc"], ["/etc"], ["a\0b"], [1], "abc", {"a": 1}, None):
        Path("logs/sweeps/a.json").write_text(json.dumps({"runs": runs}))
        assert main(["status", "logs"]) == 1
        missing, bad, total, what_next = capsys.readouterr().out.splitlines()
        assert missing == "missing   a/b/seed0-x"
        assert bad.startswith("refused   sweeps/a.json  (logs/sweeps/a.json ")
        assert total == "1 runs: 1 missing, 1 refused"
        assert what_next.startswith("next: the same command makes what is missing")


def test_names_in_unicode_are_names(good: dict[str, Any]) -> None:
    config = typed({**good, "log_dir": "läufe/実験 🧠"}, GROUPS)
    assert config.log_dir == "läufe/実験 🧠"


def test_a_terminal_gets_no_control_characters(
    good: dict[str, Any], capsys: Capture
) -> None:
    folder = Path("logs/a-b/c-\x1b[31md/seed0-x")
    folder.mkdir(parents=True)
    evil = {**good, "\x1b[2J\x1b]0;owned\x07": {"\u202ekey": "\x9b31m"}}
    (folder / "config.yaml").write_text(yaml.safe_dump(evil))
    error = {"status": "failed", "error": "a\x1b[2J\u202e"}
    (folder / "summary.json").write_text(json.dumps(error))
    for words in (
        ["status", "logs"],
        ["report", "logs"],
        ["export", "logs", "--to", "a.csv"],
        ["run", "--from", str(folder)],
        ["run", f"model={folder}/config.yaml"],
        ["run", f"experiment={folder}/config.yaml"],
        ["locality", str(folder)],
        ["run", "\x1b[31mseed=1"],
    ):
        main(words)
        said = capsys.readouterr()
        both = said.out + said.err
        assert both and not [c for c in both if not c.isprintable() and c != "\n"]


# arrays

ARRAYS: list[tuple[str, Callable[[], object]]] = [
    ("layers", lambda: KAN([])),
    ("layers", lambda: KAN([4])),
    ("grid_size", lambda: KAN([4, 2], grid_size=0)),
    ("spline_order", lambda: KAN([4, 2], spline_order=-1)),
    ("grid_range", lambda: KAN([4, 2], grid_range=(1, -1))),
    ("grid_range", lambda: KAN([4, 2], grid_range=(float("nan"), 1))),
    ("4", lambda: KAN([4, 2])(torch.zeros(3, 5))),
    ("dropout", lambda: MLP([4, 2, 2], dropout=float("nan"))),
]


@pytest.mark.parametrize(("culprit", "make"), ARRAYS)
def test_arrays(culprit: str, make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=culprit):
        make()


# properties

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    "scenario model strategy optimizer training evaluation checkpoint match match_to seed "
    "device threads deterministic data_dir log_dir overwrite tensorboard keep_model".split()
)


@settings(max_examples=30, deadline=None)
@given(key=KEYS, value=TREES, inner=st.none() | st.text(max_size=9))
def test_any_mapping_is_typed_or_refused(
    good: dict[str, Any], key: str, value: Any, inner: str | None
) -> None:
    changed: Any = value if inner is None else {inner: value}
    if inner is not None and isinstance(good[key], dict):
        changed = {**good[key], inner: value}
    try:
        config = typed({**good, key: changed}, GROUPS)
    except ConfigError as error:
        assert "\n" not in str(error) or "\n" in repr(changed)
    else:
        assert isinstance(config, RunConfig) and typed(plain(config), GROUPS) == config


@settings(max_examples=40, deadline=None)
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_file_is_read_or_refused(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from kancl.config.files import read_mapping

    path = tmp_path_factory.mktemp("any") / "config.yaml"
    path.write_bytes(content)
    try:
        mapping = read_mapping(path)
    except ConfigError as error:
        assert str(path) in str(error)
    else:
        assert mapping and all(isinstance(key, str) for key in mapping)


@settings(max_examples=25, deadline=None)
@given(content=st.binary(max_size=40), name=st.integers(0, 3), packed=st.booleans())
def test_any_image_file_is_refused(
    content: bytes, name: int, packed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any") / "KMNIST" / "raw"
    folder.mkdir(parents=True)
    names = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in _KINDS]
    for k, each in enumerate(names):
        file = folder / (each + ".gz" * (packed and k == name))
        file.write_bytes(content if k == name else b"")
    with pytest.raises(ValueError, match="is damaged"):
        load_images("kmnist", folder.parent.parent)


_KINDS = ("images-idx3", "labels-idx1")


def test_the_good_configuration_is_good(good: dict[str, Any]) -> None:
    assert plain(typed(yaml.safe_load(yaml.safe_dump(good)), GROUPS)) == good
