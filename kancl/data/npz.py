"""Data sets from ``.npz`` files: no pickles, sizes known before anything is read."""

import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from kancl.data.checks import check_memory
from kancl.reading import opened

DAMAGES = (OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, RuntimeError)
"""What damaged archives raise; the last for one that is encrypted or packed otherwise."""
KEYS = ("x_train", "y_train", "x_test", "y_test")


def read_npz(path: str | Path) -> tuple[dict[str, Any], list[str] | None]:
    """Read the arrays of ``numpy.savez(path, x_train=..., y_train=..., ...)``.

    Returns: the four arrays, and the file's ``class_names``, if it has any.
    Raises: ValueError for a file that is damaged, lacks one of them, holds Python objects,
        or would not fit into memory.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        with opened(path) as content, zipfile.ZipFile(content) as archive:
            there = {name.removesuffix(".npy") for name in archive.namelist()}
            if lacking := [key for key in KEYS if key not in there]:
                raise ValueError(
                    f"{path} has no {lacking[0]}; write it with np.savez(path, "
                    f"{', '.join(f'{key}=...' for key in KEYS)})"
                )
            keys = [*KEYS, *({"class_names"} & there)]
            sizes = [_size(archive, key, path) for key in keys]
        check_memory(f"{path}, unpacked,", sum(sizes))
        with opened(path) as content, np.load(content, allow_pickle=False) as file:
            arrays = {key: file[key] for key in keys}
        names = arrays.pop("class_names", None)
        return arrays, None if names is None else [*map(str, names.ravel())]
    except DAMAGES as error:
        raise ValueError(f"{path} is no whole .npz file: {error}") from None


def _size(archive: zipfile.ZipFile, key: str, path: Path) -> int:
    """Bytes of an array, as its header and the archive say."""
    with archive.open(f"{key}.npy") as member:
        try:
            version = np.lib.format.read_magic(member)
            reads = np.lib.format.read_array_header_1_0
            if version != (1, 0):
                reads = np.lib.format.read_array_header_2_0
            shape, _, dtype = reads(member)
        except ValueError as error:
            raise ValueError(f"{path}: {key} is damaged: {error}") from None
    if dtype.hasobject:
        raise ValueError(
            f"{path}: {key} holds Python objects, which are not read; store numbers"
        )
    size = math.prod(shape) * dtype.itemsize
    if not 0 <= size <= archive.getinfo(f"{key}.npy").file_size:
        raise ValueError(f"{path}: {key} is damaged: it is shorter than its shape says")
    return size
