"""The options of a builder, read off its signature.

This is the whole extension contract: a scenario, model, strategy or optimizer is one
function whose keyword-only arguments are the user's keys, and one line in a dict.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Callable, Mapping

from kancl.config.values import ConfigError, convert, describe, nearest


@dataclass(frozen=True)
class Option:
    """A key that a builder takes."""

    name: str
    annotation: Any
    default: Any

    @property
    def kind(self) -> str:
        return describe(self.annotation)


@dataclass(frozen=True)
class Group:
    """Builders by name.

    Args:
        name: the key that chooses one: ``model=kan``.
        builders: the literal dict of the room that holds them.
        supplied: keyword-only arguments that the runner gives, so no user's keys.
    """

    name: str
    builders: Mapping[str, Callable[..., Any]]
    supplied: frozenset[str] = frozenset()

    def builder(self, name: object) -> Callable[..., Any]:
        """Raises: ConfigError with the nearest name if there is no such builder."""
        if not isinstance(name, str) or name not in self.builders:
            raise ConfigError(
                f"there is no {self.name}={name}; {nearest(name, self.builders)}"
            )
        return self.builders[name]

    def options(self, name: object) -> dict[str, Option]:
        """Raises: TypeError if the signature is no builder's."""
        found = {}
        signature = inspect.signature(self.builder(name), eval_str=True)
        for parameter in signature.parameters.values():
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
                continue
            if parameter.name in self.supplied:
                continue
            if parameter.default is inspect.Parameter.empty:
                raise TypeError(f"{self.name} {name}: {parameter.name} has no default")
            describe(parameter.annotation)
            found[parameter.name] = Option(
                parameter.name, parameter.annotation, parameter.default
            )
        return found

    def defaults(self, name: object) -> dict[str, Any]:
        return {
            option.name: convert(
                option.default, option.annotation, f"{self.name}.{option.name}"
            )
            for option in self.options(name).values()
        }

    def summary(self, name: object) -> str:
        """The first line of the builder's docstring."""
        text = inspect.getdoc(self.builder(name)) or ""
        return text.strip().split("\n")[0]
