"""Turn a value from a command line or YAML into the type that an option declares."""

import difflib
import math
import re
import shlex
import types
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin


class ConfigError(ValueError):
    """A key or value that no run can have; the message names the nearest right one."""


def nearest(word: object, known: Iterable[str], titles: Mapping[str, str] = {}) -> str:
    """Say which known word was probably meant, or list a few of them.

    ``A-GEM`` means ``agem``, and the last part of a key, such as ``lr``, the whole key.

    Args:
        titles: a line on some of them; ``DER++`` means what is called so in brackets.
    """
    names, plain = sorted(map(str, known)), _plain(word)
    for part in (str, lambda name: name.rpartition(".")[2]):
        if plain and (meant := [n for n in names if _plain(part(n)) == plain]):
            return f"nearest: {' or '.join(meant)}"
    for name, title in titles.items():
        aliases = re.split(r"[,;\"]", " , ".join(re.findall(r"\(([^()]+)\)", title)))
        if plain and plain in map(_plain, aliases):
            return f"nearest: {name}"
    if close := difflib.get_close_matches(str(word), names, n=1, cutoff=0.5):
        return f"nearest: {close[0]}"
    return f"one of: {', '.join(names)}" if names else "there are none"


def _plain(word: object) -> str:
    return re.sub(r"[\W_]+", "", str(word)).lower()


class _Unfit(Exception):
    """What is wrong with a value, behind the name of its key; and a better value."""

    def __init__(self, text: str, better: object = "") -> None:
        super().__init__(text)
        self.better = better


@dataclass(frozen=True)
class Bounds:
    """Ends of what a number may be, as the second argument of ``Annotated``."""

    least: int
    most: int | None = None
    is_open: bool = False

    def checked(self, value: float) -> float:
        if self.is_open and value <= self.least:
            raise _Unfit(f" must be above {self.least}, not {value}")
        if value < self.least:
            raise _Unfit(f" must be at least {self.least}, not {value}")
        if self.most is not None and value > self.most:
            raise _Unfit(f" must be at most {self.most}, not {value}")
        return value

    def __str__(self) -> str:
        low = f"{'>' if self.is_open else '>='} {self.least}"
        return low + (f" and <= {self.most}" if self.most else "")


class Content:
    """Marks the path of a file, as the second argument of ``Annotated``.

    What the file holds is part of a run's identity, not how it is called.
    """

    def checked(self, value: str) -> str:
        return value

    def __str__(self) -> str:
        return "(a file)"


class DeviceName:
    """Marks the name of a device, as the second argument of ``Annotated``."""

    def checked(self, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d{1,2})?", value):
            names = "auto", "cpu", "cuda", "cuda:0", "cuda:1"
            word = value.lower().replace("gpu", "cuda")
            close = difflib.get_close_matches(word, names, 1, 0.3)
            raise _Unfit(f"={value} is not one of {', '.join(names)}, ...", *close)
        return value

    def __str__(self) -> str:
        return "(auto, cpu, cuda or cuda:0, cuda:1, ...)"


Device = Annotated[str, DeviceName()]


def is_name(text: object) -> bool:
    """Whether a run, comparison or preset can be called so, and its folder after it."""
    return isinstance(text, str) and bool(re.fullmatch(r"[A-Za-z0-9_-]{1,60}", text))


class Name:
    """Marks a name that a user gives, as the second argument of ``Annotated``."""

    def checked(self, value: str) -> str:
        if not is_name(value):
            better = re.sub(r"[^A-Za-z0-9_]+", "-", value).strip("-")[:60]
            raise _Unfit(" takes letters, digits, _ and -, 60 at most", better)
        return value

    def __str__(self) -> str:
        return "(a name)"


DataFile = Annotated[str, Content()]
Natural = Annotated[int, Bounds(0)]
Count = Annotated[int, Bounds(1)]
NonNegative = Annotated[float, Bounds(0)]
Positive = Annotated[float, Bounds(0, is_open=True)]
Share = Annotated[float, Bounds(0, 1)]
PositiveShare = Annotated[float, Bounds(0, 1, is_open=True)]


def describe(annotation: Any) -> str:
    """Name the type as a user would: ``int``, ``list of int``, ``none|unit``."""
    if annotation is type(None):
        return "null"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return f"{describe(arguments[0])} {arguments[1]}"
    if origin is Literal:
        text = "|".join(map(str, arguments))
        return text if len(text) < 40 else text.replace("|", " | ")  # lines break there
    if origin in (Union, types.UnionType):
        return " or ".join(map(describe, arguments))
    if origin is tuple and Ellipsis not in arguments:
        return f"[{', '.join(map(describe, arguments))}]"
    if origin in (Sequence, list, tuple):
        return f"list of {describe(arguments[0])}"
    if annotation in (int, float, bool, str):
        return str(annotation.__name__)
    raise TypeError(f"a configuration cannot hold a value of type {annotation}")


def convert(value: Any, annotation: Any, key: str) -> Any:
    """Return ``value`` as ``annotation`` asks for it; lists come back as tuples.

    Raises: ConfigError naming ``key``, what it takes and the nearest right value.
    """
    try:
        return _fitted(value, annotation)
    except _Unfit as error:
        nearest = as_typed(f"{key}={error.better}")
        hint = f"; nearest: {nearest}" if error.better != "" else ""
        raise ConfigError(f"{key}{error}{hint}") from error


def _fitted(value: Any, annotation: Any) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    better: object = ""
    if origin is Annotated:
        return arguments[1].checked(_fitted(value, arguments[0]))
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        parts = [part for part in arguments if part is not type(None)]
        for part in parts:
            try:
                return _fitted(value, part)
            except _Unfit:
                if len(parts) == 1:
                    raise
    elif origin is Literal:
        if value in arguments and not isinstance(value, bool):
            return value
        names = [*map(str, arguments)]
        close = difflib.get_close_matches(str(value), names, 1, 0.3)
        raise _Unfit(f"={shown(value)} is not one of {', '.join(names)}", *close)
    elif origin in (Sequence, list, tuple):
        is_fixed = origin is tuple and Ellipsis not in arguments
        if is_number:
            better = f"[{value}]"
        elif isinstance(value, (list, tuple)):
            parts = [*arguments] if is_fixed else [arguments[0]] * len(value)
            if len(parts) == len(value):
                with suppress(_Unfit):
                    return tuple(map(_fitted, value, parts))
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise _Unfit(" takes numbers below 2^63, not one of so many digits")
    elif annotation is bool:
        if isinstance(value, bool):
            return value
        words = {"1": "true", "0": "false", "yes": "true", "no": "false"}
        better = words.get(str(value).lower(), "")
    elif annotation is int and (
        ends := re.fullmatch(r"(\d+)(?:\.\.|-)(\d+)", str(value))
    ):
        better = f"range({ends[1]},{int(ends[2]) + 1})"
    elif annotation is int and isinstance(value, (list, tuple)):
        better = ",".join(map(shown, value))
    elif is_number and annotation in (int, float) and math.isfinite(value):
        if annotation is float or int(value) == value:
            return annotation(value)
        better = round(value)
    elif annotation is str and (is_number or isinstance(value, str)):
        return str(value)
    typed = shown(value) or "an empty value"
    raise _Unfit(f" takes {describe(annotation)}, not {typed}", better)


def as_typed(*words: object) -> str:
    """Words as they are typed in bash and zsh: quoted where a shell would expand them."""
    return shlex.join(map(str, words))


def short(key: str) -> str:
    """``lr`` for ``optimizer.lr``, ``optimizer`` for ``optimizer.name``."""
    return key.removesuffix(".name").split(".")[-1]


def shown(value: Any) -> str:
    """A value as it is typed."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(shown, value))}]"
    return str(value)
