"""What docstrings say of arguments: the one place where a key's meaning stands."""

from __future__ import annotations

import inspect
import pkgutil
import re

_REFERENCE = re.compile(r":class:`~?([\w.]+)`")


def summary(thing: object) -> str:
    """The first paragraph of a docstring, in one line."""
    return _plain((inspect.getdoc(thing) or "").partition("\n\n")[0])


def about(thing: object) -> str:
    """A docstring without what it says of arguments, shapes and errors."""
    text = inspect.getdoc(thing) or ""
    paragraphs = re.split(r"\n\n|\n(?=\w+:\s)", text)
    kept = [p for p in paragraphs if not re.match(r"(Args|Shape|Raises|Returns):\s", p)]
    return "\n\n".join(map(_plain, kept))


def argument_help(thing: object) -> dict[str, str]:
    """Say what each argument means: ``Args:`` of a function or class, in one line each.

    A class's base classes are read as well, and the classes that the docstring names
    as ``:class:`package.module.Name```; the nearest description of an argument counts.
    """
    sources = [*reversed(thing.__mro__[:-1])] if isinstance(thing, type) else [thing]
    found: dict[str, str] = {}
    for source in sources:
        text = inspect.cleandoc(getattr(source, "__doc__", None) or "")
        for name in _REFERENCE.findall(text):
            found |= argument_help(pkgutil.resolve_name(name))
        found |= _arguments(text)
    return found


def _arguments(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    names: list[str] = []
    for line in text.partition("\nArgs:\n")[2].split("\n"):
        entry = re.match(r"    (\w+(?:, \w+)*): *(.*)", line)
        if line and not line.startswith(" "):
            break
        if entry:
            names = entry[1].split(", ")
            found |= dict.fromkeys(names, _plain(entry[2]))
        elif line.strip():
            found |= {name: f"{found[name]} {_plain(line)}".strip() for name in names}
    return found


def _plain(text: str) -> str:
    """Without the markup of documentation tools."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"\1", text)
    return " ".join(text.replace("``", "").split())
