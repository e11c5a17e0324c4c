"""The options of a builder, read off its signature, and builders by name.

This is the whole extension contract: a scenario, model, strategy or optimizer is one
function (or class) whose keyword-only arguments are the user's keys, documented in its
``Args:``, and one line in a dict.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from functools import cache, partial
from typing import Any, get_type_hints

from kancl.config.docstrings import argument_help, summary
from kancl.config.presets import Preset
from kancl.config.presets import presets as tree_presets
from kancl.config.values import ConfigError, convert, describe, nearest


@dataclass(frozen=True)
class Option:
    """A key: what it takes, its default, and what it means."""

    name: str
    annotation: Any
    default: Any
    help: str = ""

    @property
    def kind(self) -> str:
        return describe(self.annotation)


@dataclass(frozen=True)
class Part:
    """A builder that a name stands for; a sum such as ``ewc+replay`` has several.

    Args:
        name: tells options of the same name apart: ``lwf.alpha``.
        builder: its keyword-only arguments are the options.
        defaults: values that take the place of the signature's.
    """

    name: str
    builder: Callable[..., Any]
    defaults: Mapping[str, Any] = field(default_factory=dict)


@cache
def signature_options(
    builder: Callable[..., Any], supplied: frozenset[str] = frozenset()
) -> Mapping[str, Option]:
    """Read the keyword-only arguments of a function, class or dataclass.

    Args:
        supplied: arguments that are no user's keys.

    Raises: TypeError for an argument without default, or of a type no key can have.
    """
    texts, found = argument_help(builder), {}
    # Fields that a class inherits are typed in the module of the base class.
    source = builder if is_dataclass(builder) else getattr(builder, "__init__", builder)
    source = source if isinstance(builder, type) else builder
    hints = get_type_hints(source, include_extras=True)
    for p in inspect.signature(builder).parameters.values():
        if p.kind is not p.KEYWORD_ONLY or p.name in supplied:
            continue
        if p.default is p.empty:
            raise TypeError(f"{builder.__name__}: {p.name} has no default")
        describe(hints[p.name])
        found[p.name] = Option(p.name, hints[p.name], p.default, texts.get(p.name, ""))
    return found


class Group:
    """Builders, and presets of them, by name.

    Args:
        name: the key that chooses one: ``model=kan``.
        builders: the literal dict of the room that holds them.
        supplied: keyword-only arguments that the runner gives, so no user's keys.
        parts: the parts of a name, if names may be more than those of ``builders``,
            such as sums; raises ValueError for a name that stands for nothing.
        presets: by name; those of ``configs/``, read when they are needed, if None.
    """

    def __init__(
        self,
        name: str,
        builders: Mapping[str, Callable[..., Any]],
        supplied: Collection[str] = frozenset(),
        parts: Callable[[str], Sequence[Part]] | None = None,
        presets: Callable[[], Mapping[str, Preset]] | None = None,
    ) -> None:
        self.name, self.builders = name, builders
        self.supplied = frozenset(supplied)
        self._presets = presets or partial(tree_presets, name)
        self._builder_parts = parts or (lambda name: [Part(name, builders[name])])

    @property
    def presets(self) -> Mapping[str, Preset]:
        return self._presets()

    @property
    def names(self) -> list[str]:
        """All builders and presets, sums left out."""
        return list(dict.fromkeys([*self.builders, *self.presets]))

    def expanded(self, name: object, key: str = "") -> str:
        """The name of what is built: presets give way to what they are presets of.

        Args:
            key: what chose it, if not that of the group.

        Raises: ConfigError with the nearest name if there is no such builder.
        """
        if not isinstance(name, str):
            raise ConfigError(self._no_such(name, key))
        words = [
            self.presets[w].preset_of if w in self.presets else w
            for w in name.split("+")
        ]
        try:
            self._builder_parts("+".join(words))
        except KeyError as error:
            raise ConfigError(self._no_such(name, key)) from error
        except ValueError as error:
            raise ConfigError(str(error)) from error
        return "+".join(words)

    def builder(self, name: object) -> Callable[..., Any]:
        """The one builder of a name that is no sum."""
        (part,) = self.parts(name)
        return part.builder

    def parts(self, name: object) -> list[Part]:
        """What is built, with the values of the presets that the name holds.

        Raises: ConfigError with the nearest name if there is no such builder.
        """
        parts = list(self._builder_parts(self.expanded(name)))
        for word in str(name).split("+"):
            if word not in self.presets:
                continue
            preset = self.presets[word]
            base = self._builder_parts(preset.preset_of)
            tuned = {
                part.name: v for part, v in self._dealt(base, preset.options, word)
            }
            parts = [
                replace(part, defaults={**part.defaults, **tuned.get(part.name, {})})
                for part in parts
            ]
        return parts

    def options(self, name: object) -> dict[str, Option]:
        """Its keys; one that several parts have is told apart as ``part.key``."""
        return {key: option for key, _, option in self._keys(self.parts(name))}

    def defaults(self, name: object) -> dict[str, Any]:
        """The values of all keys that are not set."""
        return {
            key: convert(option.default, option.annotation, f"{self.name}.{key}")
            for key, option in self.options(name).items()
        }

    def split(
        self, name: object, options: Mapping[str, Any]
    ) -> list[tuple[Part, dict[str, Any]]]:
        """Deal values by key out to the parts, by the names of their arguments.

        Raises: ConfigError for a key that no part has.
        """
        return self._dealt(self.parts(name), options, name)

    def summary(self, name: str) -> str:
        """One line: what the preset says of itself, or the first of the docstring."""
        if name in self.presets and self.presets[name].help:
            return self.presets[name].help
        return " + ".join(summary(part.builder) for part in self.parts(name))

    def _no_such(self, name: object, key: str) -> str:
        return f"there is no {key or self.name}={name}; {nearest(name, self.names)}"

    def _dealt(
        self, parts: Sequence[Part], options: Mapping[str, Any], name: object
    ) -> list[tuple[Part, dict[str, Any]]]:
        owners = {key: (part.name, o.name) for key, part, o in self._keys(parts)}
        dealt: dict[str, dict[str, Any]] = {part.name: {} for part in parts}
        for key, value in options.items():
            if key not in owners:
                raise ConfigError(
                    f"{self.name}.{key} is not a key of {self.name}={name}; "
                    + nearest(key, owners)
                )
            part, argument = owners[key]
            dealt[part][argument] = value
        return [(part, dealt[part.name]) for part in parts]

    def _keys(self, parts: Sequence[Part]) -> list[tuple[str, Part, Option]]:
        read = [(p, signature_options(p.builder, self.supplied)) for p in parts]
        n_parts = Counter(name for _, options in read for name in options)
        found = []
        for part, options in read:
            for option in options.values():
                key = f"{part.name}." * (n_parts[option.name] > 1) + option.name
                default = part.defaults.get(option.name, option.default)
                found.append((key, part, replace(option, default=default)))
        return found
