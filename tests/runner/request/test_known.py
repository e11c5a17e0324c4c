"""What is answered without torch is what the code itself would answer."""

import json
import os
import subprocess
import sys

import pytest

from kancl.config.docstrings import about
from kancl.config.index import as_json, from_json
from kancl.config.values import ConfigError
from kancl.runner.registry import GROUPS
from kancl.runner.request import known

SLOW = ("torch", "avalanche", "matplotlib", "numba", "tensorboard")


@pytest.fixture(scope="module")
def described():
    return from_json(json.loads(json.dumps(as_json(GROUPS))))


@pytest.mark.parametrize("key", GROUPS)
def test_the_index_has_the_keys_types_defaults_and_meanings_of_the_code(described, key):
    ours, theirs = described[key], GROUPS[key]
    assert ours.names == theirs.names
    sums = ["ewc+replay", "lwf+si", "gram+ewc"] if key == "strategy" else []
    for name in [*theirs.names, *sums]:
        assert ours.expanded(name) == theirs.expanded(name)
        assert ours.summary(name) == theirs.summary(name)
        assert ours.defaults(name) == theirs.defaults(name)
        options = theirs.options(name)
        assert [*ours.options(name)] == [*options]
        for word, option in ours.options(name).items():
            assert (option.kind, option.help) == (
                options[word].kind,
                options[word].help,
            )
        texts = ([about(p.builder) for p in g.parts(name)] for g in (ours, theirs))
        assert len({*map(tuple, texts)}) == 1


@pytest.mark.parametrize("name", ["naive+ewc", "ewc+ewc", "ewk"])
def test_the_index_refuses_what_the_code_refuses(described, name):
    said = []
    for groups in (described, GROUPS):
        with pytest.raises(ConfigError) as refusal:
            groups["strategy"].expanded(name)
        said.append(str(refusal.value))
    assert said[0] == said[1]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A folder with a run in it, and a cache folder, for all commands here."""
    root = tmp_path_factory.mktemp("known")
    run = root / "logs" / "split_mnist-class" / "kan-naive" / "seed0-00000000"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("seed: 0\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        known._indexed.__wrapped__()
    return root


def after(
    places, command, then="print(sorted({m.partition('.')[0] for m in sys.modules}))"
):
    """What a new process says: the command's words, then what it is asked."""
    code = f"import sys; from kancl.cli import main; main({command!r}); {then}"
    environment = {**os.environ, "XDG_CACHE_HOME": str(places / "cache")}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=places, env=environment, capture_output=True, text=True, check=True
    )


@pytest.mark.parametrize(
    "command, said",
    [
        (["--help"], "kancl compare"),
        (["--version"], "kancl 0."),
        (["list", "ewc"], "strategy.ewc_lambda"),
        (["list"], "scenario=split_mnist"),
        (["run", "strategy=ewk"], "nearest: ewc"),
        (["run", "strategy=ewc+replay", "optimizer.lrr=1"], "nearest: optimizer.lr"),
        (["run", "training.epochs=many"], "training.epochs takes int"),
        (["status", "logs"], "1 stopped"),
    ],
)
def test_answers_do_not_wait_for_torch(places, command, said):
    done = after(places, command)
    *answer, modules = done.stdout.splitlines()
    assert said in done.stderr + "\n".join(answer)
    assert not {*SLOW} & {*eval(modules)}


def test_other_sources_and_a_torn_file_are_read_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert known._indexed.__wrapped__() is GROUPS
    whole = known.index_file().read_text()
    for spoiled in (whole[:-9], whole.replace("avalanche", "another", 1), "[]", "{}"):
        known.index_file().write_text(spoiled)
        assert known._indexed.__wrapped__() is GROUPS
        assert known.index_file().read_text() == whole
    assert known._indexed.__wrapped__() is not GROUPS


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert known._indexed.__wrapped__() is GROUPS
