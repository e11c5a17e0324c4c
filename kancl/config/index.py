"""What the signatures of builders say, as JSON: read back without importing builders."""

import inspect
import types
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from kancl.config.groups import Described, Group, Option, signature_options
from kancl.config.values import Bounds, Content

SIMPLE = {kind.__name__: kind for kind in (int, float, bool, str, type(None))}
LISTS: dict[str, Any] = {"list": list, "Sequence": Sequence}


def as_json(groups: Mapping[str, Group]) -> dict[str, Any]:
    """Everything that ``from_json`` needs to answer as the groups do."""
    builders: dict[str, Any] = {}
    found: dict[str, Any] = {}
    for name, group in groups.items():
        names: dict[str, list[str]] = {}
        for word, given in group.builders.items():
            names[word] = []
            for builder in given if isinstance(given, list) else [given]:
                key = f"{builder.__module__}.{builder.__qualname__}"
                options = signature_options(builder, group.supplied).values()
                builders[key] = {
                    "name": builder.__name__,
                    "doc": inspect.getdoc(builder),
                    "options": [
                        [o.name, _written(o.annotation), o.default, o.help]
                        for o in options
                    ],
                }
                names[word].append(key)
        found[name] = {"sums": group.sums, "names": names}
    return {"builders": builders, "groups": found}


def from_json(index: Mapping[str, Any]) -> dict[str, Group]:
    """Groups with the names and keys of those that were written; they build nothing.

    Raises: ValueError, TypeError, KeyError or AttributeError for anything else.
    """
    builders = {}
    for key, it in index["builders"].items():
        options = [
            Option(name, _read(kind), default, text)
            for name, kind, default, text in it["options"]
        ]
        builders[key] = Described(it["name"], it["doc"], {o.name: o for o in options})
    found = {}
    for name, it in index["groups"].items():
        known: dict[str, Any] = {
            word: [builders[key] for key in keys] for word, keys in it["names"].items()
        }
        if not it["sums"]:
            known = {word: builder for word, (builder,) in known.items()}
        found[name] = Group(name, known, sums=it["sums"])
    return found


def _written(kind: Any) -> Any:
    """A type that a key can have, as words and lists."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        inner, mark = arguments
        bounds = astuple(mark) if isinstance(mark, Bounds) else None
        return ["Annotated", _written(inner), bounds]
    if origin is Literal:
        return ["Literal", *arguments]
    if origin in (Union, types.UnionType):
        return ["Union", *map(_written, arguments)]
    if origin is tuple:
        is_open = Ellipsis in arguments
        return [
            "list" if is_open else "tuple",
            *map(_written, arguments[: 1 if is_open else None]),
        ]
    if origin is not None:
        return [origin.__name__, *map(_written, arguments)]
    return kind.__name__


def _read(text: Any) -> Any:
    if isinstance(text, str):
        return SIMPLE[text]
    word, *rest = text
    if word == "Annotated":
        inner, bounds = rest
        mark = Content() if bounds is None else Bounds(*bounds)
        return Annotated[_read(inner), mark]
    if word == "Literal":
        return Literal[tuple(rest)]
    arguments: Any = tuple(map(_read, rest))
    if word == "Union":
        return Union[arguments]
    return tuple[arguments] if word == "tuple" else LISTS[word][arguments]
