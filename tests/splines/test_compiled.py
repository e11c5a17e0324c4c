"""The kernels' file may be torn, foreign, no file at all, or impossible to write."""

from __future__ import annotations

import logging
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

numba = pytest.importorskip("numba")
compiled = pytest.importorskip("kancl.splines.compiled")
SIGNATURES = compiled._signatures(*[compiled.types.float32] * 2)


KERNEL = "backgrounds"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a kernel, as it is written once it has been compiled."""
    only = {KERNEL: SIGNATURES[KERNEL]}
    # of its own: what was read from a file can't be written again
    fresh = numba.njit(getattr(compiled.kernels_cpu, KERNEL).py_func)
    monkeypatch.setattr(compiled.kernels_cpu, KERNEL, fresh)
    compiled._compile(only)
    compiled._write(tmp_path, only)
    path: Path = compiled._path(tmp_path, KERNEL, SIGNATURES[KERNEL])
    return path


def flipped(content: bytes) -> bytes:
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


TORN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "zeroed": lambda content: bytes(len(content)),
    "flipped": flipped,
    "longer": lambda content: content + b"\0",
}


@pytest.mark.parametrize("how", TORN)
def test_a_torn_file_is_not_taken(path: Path, how: str) -> None:
    assert compiled._read(path) is not None
    path.write_bytes(TORN[how](path.read_bytes()))
    assert compiled._read(path) is None


def test_what_others_made_is_not_taken(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as other:
        other.setattr(compiled, "_origin", lambda: b"another version")
        assert compiled._read(path) is None
    path.unlink()
    assert compiled._read(path) is None
    os.mkfifo(path)
    assert compiled._read(path) is None
    path.unlink()
    path.symlink_to("/dev/zero")
    assert compiled._read(path) is None
    path.unlink()
    path.mkdir()
    assert compiled._read(path) is None


@compiled.numba.njit
def add_one(x):  # type: ignore[no-untyped-def]
    return x + 1


def test_a_file_is_written_whole_or_not_at_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled.kernels_cpu, "add_one", add_one, raising=False)
    add_one.compile((compiled.types.int64,))
    signatures = {"add_one": (compiled.types.int64,)}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # as on a full disk
    try:
        compiled._write(tmp_path, signatures)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())
    (record,) = caplog.records
    assert "NUMBA_CACHE_DIR" in record.message and "too large" in record.message
    compiled._write(tmp_path, signatures)
    (path,) = tmp_path.iterdir()
    assert compiled._read(path) is not None
    add_one.overloads.clear()
    assert compiled._missing(tmp_path, signatures) == {}
    assert add_one.overloads.keys() == {(compiled.types.int64,)} and add_one(2) == 3


def test_without_a_folder_it_is_compiled_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """These signatures are compiled already: Numba has nothing to do."""
    monkeypatch.setattr(compiled.numba.config, "CACHE_LOCATOR_CLASSES", "none.Locator")
    with caplog.at_level(logging.WARNING):
        kernels = compiled.kernels("float32", "float32")
    assert kernels is compiled.kernels_cpu
    assert [r.message.split()[0] for r in caplog.records] == ["Compiling", "Each"]


USE = """
import sys, torch
from kancl import KANLinear
from kancl.splines import cpu
torch.manual_seed(0)
layer = KANLinear(3, 2)
layer(torch.rand(5, 3)).square().sum().backward()
print(layer.coefficients.grad.numpy().tobytes().hex())
print(cpu._kernels(torch.float32, torch.float32) is not None)
"""


def start(folder: Path) -> subprocess.Popen[str]:
    """A process that trains a layer, with its cache there."""
    told = {**os.environ, "NUMBA_CACHE_DIR": str(folder)}
    command, pipe = [sys.executable, "-c", USE], subprocess.PIPE
    return subprocess.Popen(command, env=told, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.proof
def test_torn_files_and_parallel_first_uses_of_whole_processes(tmp_path: Path) -> None:
    first = [start(tmp_path) for _ in range(3)]
    told = [process.communicate(timeout=300) for process in first]
    assert [process.returncode for process in first] == [0, 0, 0]
    assert sum("Compiling" in errors for _, errors in told) == 1
    expected = told[0][0]
    assert expected.endswith("True\n") and {out for out, _ in told} == {expected}
    paths = sorted(tmp_path.rglob("*.bin"))
    assert len(paths) == len(SIGNATURES)
    for path, torn in zip(paths * 2, TORN.values()):
        path.write_bytes(torn(path.read_bytes()))
        process = start(tmp_path)
        out, errors = process.communicate(timeout=300)
        assert (process.returncode, out) == (0, expected)
        assert errors.count("\n") == 1 and "Compiling" in errors
    process = start(tmp_path)
    assert process.communicate(timeout=300) == (expected, "")
