"""What docstrings say of arguments: the one place where a key's meaning stands."""

import inspect
import pkgutil
import re


def summary(thing: object) -> str:
    """The first paragraph of a docstring, in one line."""
    return _plain((inspect.getdoc(thing) or "").partition("\n\n")[0])


def about(thing: object) -> str:
    """A docstring without what it says of arguments, shapes and errors."""
    paragraphs = re.split(r"\n\n|\n(?=\w+:\s)", inspect.getdoc(thing) or "")
    kept = [p for p in paragraphs if not re.match(r"(Args|Shape|Raises|Returns):\s", p)]
    return "\n\n".join(map(_plain, kept))


def argument_help(thing: object) -> dict[str, str]:
    """What each argument of a function or class means: its ``Args:``, in one line each.

    A class's base classes are read as well, and the classes that the docstring names
    as ``:class:`package.module.Name```; the nearest description of an argument counts.
    """
    sources = [*reversed(thing.__mro__[:-1])] if isinstance(thing, type) else [thing]
    found: dict[str, str] = {}
    for source in sources:
        text = inspect.cleandoc(getattr(source, "__doc__", None) or "")
        for name in re.findall(r":class:`~?([\w.]+)`", text):
            found |= argument_help(pkgutil.resolve_name(name))
        names: list[str] = []
        for line in text.partition("\nArgs:\n")[2].split("\n"):
            if line and not line.startswith(" "):
                break
            if entry := re.match(r"    (\w+(?:, \w+)*): *(.*)", line):
                names = entry[1].split(", ")
                found |= dict.fromkeys(names, _plain(entry[2]))
            elif line.strip():
                found |= {n: f"{found[n]} {_plain(line)}".strip() for n in names}
    return found


def _plain(text: str) -> str:
    """Without the markup of documentation tools."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"\1", text)
    return " ".join(text.replace("``", "").split())
