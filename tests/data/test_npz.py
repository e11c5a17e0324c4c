"""Files of arrays: read within bounds, or refused by name."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kancl.data.npz import KEYS, read_npz

ARRAYS = {"x_train": np.ones((4, 2)), "y_train": np.arange(4)}
ARRAYS |= {"x_test": np.zeros((2, 2)), "y_test": np.arange(2)}


def save(path: Path, compressed: bool = False, **changed: Any) -> Path:
    (np.savez_compressed if compressed else np.savez)(path, **{**ARRAYS, **changed})
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_what_numpy_saved_is_read(tmp_path: Path, compressed: bool) -> None:
    file = save(tmp_path / "a.npz", compressed, class_names=["a", "b"], extra=[1])
    arrays, names = read_npz(file)
    assert names == ["a", "b"] and tuple(arrays) == KEYS
    assert all(np.array_equal(arrays[key], ARRAYS[key]) for key in KEYS)
    assert read_npz(save(tmp_path / "b.npz"))[1] is None


def with_member(path: Path, content: bytes) -> Path:
    """A file whose x_train is ``content``, tightly packed."""
    save(path)
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    members["x_train.npy"] = content
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in members.items():
            new.writestr(name, data)
    return path


def header(shape: tuple[int, ...]) -> bytes:
    said = {"descr": "<f8", "fortran_order": False, "shape": shape}
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, said)
    return file.getvalue()


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    with pytest.raises(ValueError, match="there is no file .*a.npz"):
        read_npz(file)
    with pytest.raises(ValueError, match="there is no file"):
        read_npz(tmp_path)
    file.write_bytes(b"no zip")
    with pytest.raises(ValueError, match="a.npz is no whole .npz file"):
        read_npz(file)
    np.savez(file, x_train=[1])
    with pytest.raises(ValueError, match="has no y_train; write it with np.savez"):
        read_npz(file)
    file.write_bytes(save(file).read_bytes()[:-100])
    with pytest.raises(ValueError, match="a.npz is no whole .npz file"):
        read_npz(file)


def test_python_objects_are_not_read(tmp_path: Path) -> None:
    file = save(tmp_path / "a.npz", x_train=np.array([{}, []], dtype=object))
    with pytest.raises(ValueError, match="x_train holds Python objects"):
        read_npz(file)


@pytest.mark.parametrize("shape", [(10**12, 8), (-5, -5), (10**30,)])
def test_a_shape_that_lies_is_refused_before_memory_is_taken(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    file = with_member(tmp_path / "a.npz", header(shape) + b"\0" * 64)
    with pytest.raises(ValueError, match="x_train is damaged"):
        read_npz(file)


def test_what_would_not_fit_into_memory_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = with_member(tmp_path / "a.npz", header((2**20,)) + bytes(8 * 2**20))
    assert file.stat().st_size < 20_000
    small = type("Memory", (), {"available": 2**20})
    monkeypatch.setattr("kancl.data.checks.virtual_memory", lambda: small)
    with pytest.raises(ValueError, match="a.npz, unpacked, takes 0.0 GiB, twice"):
        read_npz(file)
