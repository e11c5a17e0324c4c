"""Turn a value from a command line or YAML into the type that an option declares."""

from __future__ import annotations

import difflib
import math
import types
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin


class ConfigError(ValueError):
    """A key or value that no run can have; the message names the nearest right one."""


def nearest(word: object, known: Iterable[str]) -> str:
    """Say which known word was probably meant, or list a few of them."""
    names = sorted(str(name) for name in known)
    close = difflib.get_close_matches(str(word), names, n=1, cutoff=0.5)
    if close:
        return f"nearest: {close[0]}"
    if not names:
        return "there are none"
    return "one of: " + ", ".join(names)


@dataclass(frozen=True)
class Bounds:
    """Ends of what a number may be, as the second argument of ``Annotated``."""

    least: int
    most: int | None = None
    is_open: bool = False

    def check(self, value: float, key: str) -> None:
        """Raises: ConfigError naming the end that is passed."""
        if self.is_open and value <= self.least:
            raise ConfigError(f"{key} must be above {self.least}, not {value}")
        if value < self.least:
            raise ConfigError(f"{key} must be at least {self.least}, not {value}")
        if self.most is not None and value > self.most:
            raise ConfigError(f"{key} must be at most {self.most}, not {value}")

    def __str__(self) -> str:
        low = f"{'>' if self.is_open else '>='} {self.least}"
        return low + (f" and <= {self.most}" if self.most else "")


Natural = Annotated[int, Bounds(0)]
Count = Annotated[int, Bounds(1)]
NonNegative = Annotated[float, Bounds(0)]
Positive = Annotated[float, Bounds(0, is_open=True)]
Share = Annotated[float, Bounds(0, 1)]


def describe(annotation: Any) -> str:
    """Name the type as a user would: ``int``, ``list of int``, ``none|unit``."""
    if annotation is type(None):
        return "null"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return f"{describe(arguments[0])} {arguments[1]}"
    if origin is Literal:
        return "|".join(str(choice) for choice in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(part) for part in arguments)
    if origin is tuple and Ellipsis not in arguments:
        return "[" + ", ".join(describe(part) for part in arguments) + "]"
    if origin in (Sequence, list, tuple):
        return f"list of {describe(arguments[0])}"
    if annotation in (int, float, bool, str):
        return str(annotation.__name__)
    raise TypeError(f"a configuration cannot hold a value of type {annotation}")


def convert(value: Any, annotation: Any, key: str) -> Any:
    """Return ``value`` as ``annotation`` asks for it; lists come back as tuples.

    Raises: ConfigError naming ``key``, what it takes and the nearest right value.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        value = convert(value, arguments[0], key)
        arguments[1].check(value, key)
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        errors = []
        for part in arguments:
            if part is not type(None):
                try:
                    return convert(value, part, key)
                except ConfigError as error:
                    errors.append(error)
        raise errors[0] if len(errors) == 1 else _refused(value, annotation, key)
    if origin is Literal:
        if value in arguments and not isinstance(value, bool):
            return value
        names = [str(choice) for choice in arguments]
        raise ConfigError(
            f"{key}={shown(value)} is not one of {', '.join(names)}"
            + _hint(key, difflib.get_close_matches(str(value), names, 1, 0.3))
        )
    if origin in (Sequence, list, tuple):
        return _convert_list(value, annotation, key)
    return _convert_scalar(value, annotation, key)


def _convert_list(value: Any, annotation: Any, key: str) -> tuple[Any, ...]:
    arguments = get_args(annotation)
    if not isinstance(value, (list, tuple)):
        scalar = isinstance(value, (int, float)) and not isinstance(value, bool)
        raise _refused(value, annotation, key, f"[{value}]" if scalar else None)
    if get_origin(annotation) is tuple and Ellipsis not in arguments:
        if len(value) != len(arguments):
            raise _refused(value, annotation, key)
        parts = list(arguments)
    else:
        parts = [arguments[0]] * len(value)
    try:
        return tuple(convert(item, part, key) for item, part in zip(value, parts))
    except ConfigError as error:
        raise _refused(value, annotation, key) from error


def _convert_scalar(value: Any, annotation: Any, key: str) -> Any:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and isinstance(value, int) and abs(value) >= 2**63:
        raise ConfigError(f"{key} takes numbers below 2^63, not one of so many digits")
    if annotation is bool:
        if isinstance(value, bool):
            return value
        words = {"1": "true", "0": "false", "yes": "true", "no": "false"}
        raise _refused(value, annotation, key, words.get(str(value).lower()))
    if annotation is int:
        if is_number and float(value).is_integer():
            return int(value)
        whole = is_number and math.isfinite(value)
        raise _refused(value, annotation, key, str(round(value)) if whole else None)
    if annotation is float:
        if is_number and math.isfinite(value):
            return float(value)
        raise _refused(value, annotation, key)
    if annotation is str:
        if isinstance(value, str) or is_number:
            return str(value)
        raise _refused(value, annotation, key)
    raise TypeError(f"{key}: a configuration cannot hold a value of type {annotation}")


def _refused(
    value: Any, annotation: Any, key: str, better: str | None = None
) -> ConfigError:
    kind = describe(annotation)
    return ConfigError(
        f"{key} takes {kind}, not {shown(value) or 'an empty value'}"
        + _hint(key, [better] * bool(better))
    )


def _hint(key: str, better: Sequence[str | None]) -> str:
    return f"; nearest: {key}={better[0]}" if better else ""


def shown(value: Any) -> str:
    """A value as it is typed."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(shown(item) for item in value) + "]"
    return str(value)
