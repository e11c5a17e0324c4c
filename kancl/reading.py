"""Files that may be a stranger's, read within bounds.

Everything that kancl reads back goes through here. Only regular files are opened: a pipe
would wait for its writer, a device never ends. How much there is, how deep and how large
its numbers are is known before anything is made of it, and text has no control characters
left that a terminal would obey.
"""

import csv
import gzip
import io
import json
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import yaml
from omegaconf import OmegaConf

MOST_YAML, MOST_NODES, MOST_SCALAR = 100_000, 10_000, 10_000  # bytes, nodes, characters
MOST_JSON, MOST_CSV = 2**22, 2**27  # bytes
MOST_CELLS, MOST_LINE = 2**24, 2**20  # of a table: cells; characters in a line
DEEPEST = 20  # lists and keys inside each other
MOST_DIGITS = 20  # of a whole number in JSON; with more it is a float, as elsewhere


class _Refused(ValueError):
    """What is wrong with a file, behind its name."""


@contextmanager
def opened(path: Path, most_bytes: int | None = None) -> Iterator[BinaryIO]:
    """Open a regular file.

    Raises: OSError if it cannot be read; ValueError if it is no regular file, or larger
        than ``most_bytes``.
    """
    # Opening a pipe would wait for its writer.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _Refused(f"{path.name} is no regular file")
        if most_bytes is not None and status.st_size > most_bytes:
            why = f"more than {most_bytes:,} bytes"
            raise _Refused(f"{path.name} is too large: {why}")
        with open(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def read_bytes(path: Path, most_bytes: int) -> bytes:
    """Raises: as ``opened`` does."""
    with opened(path, most_bytes) as file:
        return file.read(most_bytes)


def unpack_gzip(packed: bytes, most_bytes: int) -> bytes:
    """Raises: ValueError if it is no whole gzip file, or holds more than ``most_bytes``."""
    try:
        with gzip.open(io.BytesIO(packed)) as file:
            content = file.read(most_bytes + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise ValueError("it is not a whole gzip file") from None
    if len(content) > most_bytes:
        raise ValueError(f"it unpacks to more than {most_bytes:,} bytes")
    return content


def read_json(path: Path) -> dict[str, Any]:
    """Read keys with values.

    Raises: OSError or ValueError for anything else.
    """
    try:
        content = json.loads(read_bytes(path, MOST_JSON), parse_int=_number)
    except RecursionError:
        raise ValueError(f"{path.name} is nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError(f"expected keys with values, got {type(content).__name__}")
    return _plain(content)


def try_json(path: Path) -> dict[str, Any] | None:
    """``read_json``; None for anything else."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read keys with values: numbers, strings, lists, nested keys.

    Nothing is constructed but these: a tag such as ``!!python/object`` is refused, and
    so are aliases, with which a few lines can swell to gigabytes, and interpolations,
    which could read this machine's environment.

    Raises: ValueError naming the file, for anything else.
    """
    try:
        text = read_bytes(path, MOST_YAML).decode()
        _look_through(text)
        content = OmegaConf.to_container(OmegaConf.create(text))
        if not isinstance(content, dict) or not content:
            raise _Refused("holds no keys")
        if "${" in text:
            raise _Refused("is not resolved (it holds ${...}): refused")
        return _plain(content)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except _Refused as error:
        raise ValueError(f"{path} {error}") from error
    except Exception as error:  # a forged scalar can raise any
        why = printable(error).split("\n")[0]
        raise ValueError(f"{path} is no YAML: {why}") from error


def read_rows(path: Path) -> Iterator[list[str]]:
    """Read a CSV file, row by row; all are as long as the first.

    Raises: OSError or ValueError, naming the file, for anything else.
    """
    n_cells, width = 0, None
    with opened(path, MOST_CSV) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        try:
            for row in csv.reader(_lines(text)):
                n_cells += len(row)
                width = len(row) if width is None else width
                if len(row) != width:
                    raise ValueError(f"{row} has {len(row)} cells, expected {width}")
                if n_cells > MOST_CELLS:
                    raise ValueError(f"it has more than {MOST_CELLS:,} cells")
                yield row
        except (csv.Error, ValueError) as error:
            raise ValueError(f"{path.name} is no table: {str(error)[:200]}") from error


def printable(text: object) -> str:
    """Text without control characters; line breaks and tabs stay."""
    said = str(text)
    if said.isprintable():
        return said
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in said)


def in_one_line(text: object) -> str:
    """Text for a line of a terminal: no line breaks, no control characters."""
    return " ".join(printable(text).split())


def _look_through(text: str) -> None:
    """Refuse, before anything is made of it, what would swell or take for ever."""
    depth = n_nodes = 0
    for event in yaml.parse(text):
        is_scalar = isinstance(event, yaml.ScalarEvent)
        opens = isinstance(event, yaml.CollectionStartEvent)
        if isinstance(event, yaml.AliasEvent):
            raise _Refused("refers to itself (a YAML alias): refused")
        if depth == 0 and (is_scalar or isinstance(event, yaml.SequenceStartEvent)):
            raise _Refused("holds no keys")
        if (is_scalar or opens) and event.tag not in (None, "!"):
            raise _Refused(f"is no YAML of plain values: it has the tag {event.tag}")
        n_nodes += is_scalar or opens
        depth += opens
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise _Refused("is nested too deeply: refused")
        if n_nodes > MOST_NODES or is_scalar and len(event.value) > MOST_SCALAR:
            raise _Refused("is too large for a configuration: refused")


def _plain(content: Any, depth: int = 0) -> Any:
    """The content with printable text, and names for keys."""
    if depth > DEEPEST:
        raise _Refused("is nested too deeply: refused")
    if isinstance(content, dict):
        items = content.items()
        return {printable(key): _plain(value, depth + 1) for key, value in items}
    if isinstance(content, list):
        return [_plain(value, depth + 1) for value in content]
    if isinstance(content, int) and abs(content) >= 10**MOST_DIGITS:
        raise _Refused("holds a number of too many digits: refused")
    if not isinstance(content, str):
        return content
    if "\0" in content:
        raise _Refused("holds a null character: refused")
    return printable(content)


def _number(text: str) -> float:
    return int(text) if len(text) <= MOST_DIGITS else float(text)


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(MOST_LINE):
        if len(line) == MOST_LINE:
            raise ValueError(f"it has a line of more than {MOST_LINE:,} characters")
        yield line
