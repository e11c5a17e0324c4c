"""Every file that kancl reads, damaged in many ways: read, or refused in words.

None hangs, takes much memory, writes elsewhere or ends in another error than a refusal.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kancl import load
from kancl.cli import main
from kancl.config import ConfigError
from kancl.data.images import load_images
from kancl.data.npz import read_npz
from kancl.reporting.report import benchmarks, compare, find_tunings, headline, tables
from kancl.reporting.report.confounds import confounds
from kancl.reporting.report.write import protocol
from kancl.runner.memory import check_fits
from kancl.runner.request.compose import read_folder, read_request
from kancl.runs import Run, find_runs, lock_holder, read_run
from kancl.runs.checkpoints import CheckpointFolder
from kancl.runs.reader import read_matrix, read_snapshots, read_table
from kancl.runs.status import read_completed, read_status
from tests.reporting.report.conftest import plant_runs
from tests.reporting.report.test_tuning import record

SECONDS, BYTES = 5, 500e6
RUN = "logs/split_mnist-class/mlp-naive/seed0-x"
Read = Callable[[Path], object]


class Target(NamedTuple):
    """A file, what kancl makes of it, and how many damaged ones are tried."""

    file: str
    read: Read
    n: int


def _shown(folder: Path) -> None:
    """What a report says of the runs, but for its pictures."""
    runs = [read_run(folder / RUN), *_others(folder)]
    tunings = find_tunings([folder / "logs"])
    groups = benchmarks(runs)
    compared = [(benchmark, compare(benchmark)) for benchmark in groups]
    for table in (
        tables.all_results(groups),
        tables.all_runs(groups),
        tables.all_comparisons(compared),
        *map(tables.results, groups),
        *map(tables.cost, groups),
        *(tables.comparison(b, c) for b, c in compared if c),
    ):
        assert _is_printable(table.csv() + table.markdown() + table.latex())
    for benchmark, comparisons in compared:
        said = headline(comparisons) + benchmark.title + str(protocol(benchmark))
        assert _is_printable(said)
        confounds(benchmark, comparisons, tunings)


@cache
def _others(folder: Path) -> list[Run]:
    runs = find_runs([folder / "logs"])
    assert [run.status for run in runs].count("completed") == 4
    return [run for run in runs if run.folder != folder / RUN]


def _is_printable(text: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in text)


def _points(folder: Path) -> None:
    checkpoints = CheckpointFolder(folder / "own/checkpoint", {})
    checkpoints.points(lambda text: None)


def _completed(folder: Path) -> None:
    read_completed(folder / RUN)
    lock_holder(folder / RUN)
    read_status(folder / "logs")


def _requested(word: str) -> Read:
    def read(folder: Path) -> None:
        for config in read_request([word], sweep=True).configs:
            check_fits(config)

    return read


TARGETS = [
    Target(f"{RUN}/config.yaml", _shown, 400),
    Target(f"{RUN}/summary.json", _shown, 600),
    Target(f"{RUN}/env.json", _shown, 150),
    Target(f"{RUN}/metrics.csv", _shown, 100),
    Target("logs/tuned/mine.yaml", _shown, 250),
    Target(f"{RUN}/config.yaml", lambda f: read_folder(f / RUN, []), 400),
    Target(f"{RUN}/metrics.csv", lambda f: read_run(f / RUN), 900),
    Target(f"{RUN}/summary.json", _completed, 700),
    Target("logs/sweeps/a.json", _completed, 800),
    Target(f"{RUN}/.lock", _completed, 700),
    Target("own/checkpoint/experience-0002.ckpt", _points, 500),
    Target("own/model.pt", lambda f: load(f / "own")._read_weights(), 200),
    Target("own/snapshots.pt", lambda f: read_snapshots(f / "own"), 1300),
    Target("own/accuracy_matrix.csv", lambda f: read_matrix(f / "own"), 1000),
    Target("learned.csv", lambda f: read_table(f / "learned.csv"), 900),
    Target("mine.yaml", _requested("model=mine.yaml"), 300),
    Target("experiment.yaml", _requested("experiment=experiment.yaml"), 160),
    Target("data.npz", lambda f: read_npz(f / "data.npz"), 1300),
    Target(
        "MNIST/raw/t10k-labels-idx1-ubyte.gz", lambda f: load_images("mnist", f), 30
    ),
]
assert sum(target.n for target in TARGETS) >= 10_000

LEAVES = st.sampled_from(
    [
        *(None, True, -1, 0, 2**63, 10**30, 1e308, -1e-320, float("nan"), float("inf")),
        *("", "\x1b[2J\x07", "\u202e", "=1+1", "x" * 9_000, "a\nb", "../../x", "1e9"),
        *([], {}, [[1, 2], {}], {"a": {"b": []}}, "completed", "${oc.env:PATH}"),
    ]
) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


def _paths(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where everything in nested lists and keys lies."""
    items: Any = ()
    if isinstance(content, dict):
        items = content.items()
    elif isinstance(content, list):
        items = enumerate(content)
    for key, value in items:
        yield (*path, key)
        yield from _paths(value, (*path, key))


@st.composite
def damaged(draw: st.DrawFn, name: str, good: bytes) -> bytes:
    """The file with bytes flipped, cut, put in or repeated, or with other values."""
    kinds = ["flip", "flip", "cut", "put in", "repeat"]
    nested = name.endswith((".json", ".yaml"))
    kind = draw(st.sampled_from(kinds + ["value"] * 5 * nested + ["cell"] * 2))
    at = draw(st.integers(0, max(0, len(good) - 1)))
    if kind == "value":
        load, dump = (json.loads, json.dumps)
        if name.endswith(".yaml"):
            load, dump = yaml.safe_load, yaml.safe_dump
        content = load(good)
        *path, last = draw(st.sampled_from([*_paths(content)]))
        inner = content
        for key in path:
            inner = inner[key]
        if draw(st.booleans()) and isinstance(inner, dict):
            inner[draw(st.text(max_size=9))] = inner.pop(last)
        else:
            inner[last] = draw(LEAVES)
        return str(dump(content)).encode("utf-8", "replace")
    if kind == "cell":  # a number in the text becomes another
        words = [*b"-1 1e999 99999999999999999999 nan 0x1F 1:1:1 *a &a !!set |".split()]
        word = draw(st.sampled_from(words))
        end = at
        while end < len(good) and (48 <= good[end] < 58 or good[end] == 46):
            end += 1
        return good[:at] + word + good[end:]
    if kind == "cut":
        return good[:at]
    if kind == "put in":
        return good[:at] + draw(st.binary(min_size=1, max_size=40)) + good[at:]
    if kind == "repeat":
        n = draw(st.sampled_from([2, 50, 2_000]))
        end = at + draw(st.integers(1, 20))
        return good[:at] + good[at:end] * n + good[end:]
    content = bytearray(good)
    for _ in range(draw(st.integers(1, 8))):
        place = draw(st.integers(0, max(0, len(good) - 1)))
        content[place : place + 1] = bytes([draw(st.integers(0, 255))])
    return bytes(content)


class Short(bytes):
    """Bytes of which a failure shows the first: Hypothesis refuses to show too many."""

    def __repr__(self) -> str:
        return f"{self[:500]!r}, {len(self)} in all"


class Hang(BaseException):
    """It took too long."""


@contextmanager
def within_bounds() -> Iterator[None]:
    """Raises: Hang, or AssertionError for much more memory than before."""

    def stop(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that of now
    held = _peak()
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert _peak() - held < BYTES


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def _tree(folder: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for root, _, files in os.walk(folder):
        for file in files:
            status = os.lstat(os.path.join(root, file))
            found[os.path.join(root, file)] = status.st_size, status.st_mtime_ns
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One of every file."""
    root = tmp_path_factory.mktemp("fuzz")
    before = os.getcwd()
    os.chdir(root)
    words = ["scenario.train_samples=20", "scenario.test_samples=10", "model=mlp"]
    words += ["scenario.n_experiences=2", "evaluation.samples=0", "tensorboard=none"]
    words += ["model.hidden=[3]", "keep_model=true", "checkpoint.keep=true"]
    words += ["evaluation.locality=true", "checkpoint.every_iterations=1"]
    assert main(["run", "-q", *words]) == 0
    (made,) = root.glob("logs/*/*/*")
    made.rename("own")
    plant_runs(
        root / "logs",
        *("model=kan,mlp", "match=params", "seed=range(2)"),
        outcome=lambda config: (0.9, 0.5 + 0.1 * config.seed),
    )
    plant_runs(root / "logs", "model=mlp", "seed=7", outcome=lambda config: "failed")
    (first,) = (root / RUN).parent.glob("seed0-*")
    first.rename(root / RUN)
    (root / RUN / ".lock").write_text("pid=1\nhost=elsewhere\n")
    (root / "logs/tuned").mkdir()
    tuned = {"tuning": [record("kan"), record("mlp")]}
    (root / "logs/tuned/mine.yaml").write_text(yaml.safe_dump(tuned))
    (root / "logs/sweeps").mkdir(exist_ok=True)
    (root / "logs/sweeps/a.json").write_text(json.dumps({"runs": ["a/b/seed0-x"]}))
    preset = "preset_of: mlp\nhelp: small\nhidden: [8]\nwith: {optimizer: {lr: 0.01}}\n"
    (root / "mine.yaml").write_text(preset)
    experiment = {
        "question": "What?",
        "control": "All alike.",
        "shared": {"training": {"epochs": 1}},
        "variants": [["model=mlp", "model.hidden=[4]"], {"model": {"name": "kan"}}],
    }
    (root / "experiment.yaml").write_text(yaml.safe_dump(experiment))
    (root / "learned.csv").write_text("x,target,phase_1\n0,1,2\n1,0.5,1e-3\n")
    x, y = np.random.default_rng(0).random((20, 3)), np.arange(20) % 4
    np.savez_compressed("data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    (root / "MNIST/raw").mkdir(parents=True)
    shipped = Path(__file__).parents[1] / "kancl/data/mnist"
    for file in shipped.glob("*-ubyte.gz"):
        (root / "MNIST/raw" / file.name).symlink_to(file)
    labels = root / "MNIST/raw/t10k-labels-idx1-ubyte.gz"
    content = labels.read_bytes()
    labels.unlink()
    labels.write_bytes(content)
    yield root
    os.chdir(before)


def attack(folder: Path, target: Target, n: int) -> int:
    """How many damaged files were read or refused."""
    path, n_tried = folder / target.file, 0
    target.read(folder)
    good, before = path.read_bytes(), _tree(folder)
    del before[str(path)]

    @settings(max_examples=n, database=None, suppress_health_check=[*HealthCheck])
    @given(content=damaged(target.file, good).map(Short))
    def read(content: bytes) -> None:
        nonlocal n_tried
        path.write_bytes(content)
        try:
            with within_bounds():
                target.read(folder)
        except (ConfigError, ValueError, OSError) as error:
            assert str(error)
        n_tried += 1

    try:
        read()
        path.unlink()
        after = _tree(folder)
        assert after == before
    finally:
        path.write_bytes(good)
    return n_tried


IDS = [f"{k}-{Path(target.file).name}" for k, target in enumerate(TARGETS)]


@pytest.mark.parametrize("target", TARGETS, ids=IDS)
def test_a_hundred_damaged_files(folder: Path, target: Target) -> None:
    attack(folder, target, -(-target.n // 100))


@pytest.mark.proof
@pytest.mark.parametrize("target", TARGETS, ids=IDS)
def test_ten_thousand_damaged_files(folder: Path, target: Target) -> None:
    start = time.perf_counter()
    n_tried = attack(folder, target, target.n)
    seconds = time.perf_counter() - start
    print(f"\n{target.file}: {n_tried} damaged files in {seconds:.1f} s")
    assert n_tried >= target.n
