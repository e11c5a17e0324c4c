"""A stranger's file is read within bounds, or refused by name."""

from __future__ import annotations

import gzip
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from kancl.reading import (
    in_one_line,
    read_bytes,
    read_json,
    read_rows,
    read_yaml,
    unpack_gzip,
)
from kancl.runs import lock_holder


def test_what_is_no_regular_file_or_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    os.mkfifo(path)
    with pytest.raises(ValueError, match="summary.json is no regular file"):
        read_json(path)
    assert lock_holder(tmp_path) is None
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="summary.json is no regular file"):
        read_json(path)
    path.unlink()
    path.write_bytes(bytes(101))
    assert read_bytes(path, 101) == bytes(101)
    with pytest.raises(ValueError, match="summary.json is too large: more than 100 b"):
        read_bytes(path, 100)


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "missing"])
@pytest.mark.parametrize("read", [read_json, read_yaml, lambda p: list(read_rows(p))])
def test_only_regular_files_are_read(tmp_path: Path, kind: str, read: Any) -> None:
    path = tmp_path / "file"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    with pytest.raises((OSError, ValueError), match="file"):
        read(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]", "YAML alias"),
        ("a: " + "[" * 30, "nested too deeply"),
        ("a: [" + "[]," * 20_000 + "]", "too large"),
        ("a: " + "1:" * 20_000 + "1", "too large"),
        ("a: 0x" + "f" * 9_000, "too many digits"),
        ("a: " + "9" * 9_000, "is no YAML"),
        ("a: !!int ''", "tag"),
        ("a: !!python/name:os.system ''", "tag"),
        ('a: "\\0"', "null character"),
        ("a: ${oc.env:HOME}", "not resolved"),
        ("a: x" + " " * 200_000, "too large"),
    ],
    ids=lambda part: part[:20],
)
def test_what_would_swell_is_refused_before_it_does(
    tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    tracemalloc.start()
    with pytest.raises(ValueError, match=says) as error:
        read_yaml(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6 and "config.yaml" in str(error.value)


def test_text_of_a_file_has_no_control_characters(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text('{"a\\u001b[31m": ["b\\u202ec\\u009b", 1, null], "d": "e\\n\\tf"}')
    assert read_json(path) == {"a [31m": ["b c ", 1, None], "d": "e\n\tf"}
    path.write_text('"a\\e[31m": {"\\u202Eb": "c\\e]0;d\\a"}\n1: {2: 3}')
    assert read_yaml(path) == {"a [31m": {" b": "c ]0;d "}, "1": {"2": 3}}
    assert in_one_line("a\x1b[2J\n\tb\r\n") == "a [2J b"


def test_long_numbers_are_floats_in_json(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text('{"a": 1' + "0" * 400 + ', "b": 12345678901234567890}')
    assert read_json(path) == {"a": float("inf"), "b": 12345678901234567890}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a,b\n" + b"x" * 2**20, "line of more than"),
        (b'"' + b"x\n" * 200_000, "field larger"),
        (b"a\xff\n", "decode"),
        (b"," * (2**20 - 2) + b"\n", ""),
    ],
    ids=["line", "field", "utf-8", "cells"],
)
def test_tables_have_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, says: str
) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes(content)
    if says:
        with pytest.raises(ValueError, match=f"file.csv is no table: .*{says}"):
            list(read_rows(path))
    else:
        monkeypatch.setattr("kancl.reading.MOST_CELLS", 2**20 - 2)
        with pytest.raises(ValueError, match="file.csv is no table: .* cells"):
            list(read_rows(path))


def test_a_gzip_bomb_is_not_unpacked() -> None:
    packed = gzip.compress(gzip.compress(bytes(10**8)))  # 97 kB, 100 MB, in 283 bytes
    inner = unpack_gzip(packed, 10**6)
    tracemalloc.start()
    with pytest.raises(ValueError, match="unpacks to more than 1,000,000 bytes"):
        unpack_gzip(inner, 10**6)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6
    for torn in (packed[:-9], b"no gzip"):
        with pytest.raises(ValueError, match="whole gzip file"):
            assert unpack_gzip(torn, 10**6) and False
