"""Builders by name, sums and presets of them; their keys, read off signatures.

This is the whole extension contract: a scenario, model, strategy or optimizer is a
function (or class) whose keyword-only arguments are the user's keys, documented in its
``Args:``, and one line in a dict.
"""

import inspect
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from functools import cache, partial
from typing import Any, get_type_hints

from kancl.config.docstrings import argument_help, summary
from kancl.config.files import Preset
from kancl.config.files import presets as presets_of_the_tree
from kancl.config.values import (
    ConfigError,
    as_typed,
    convert,
    describe,
    nearest,
    shown,
)


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
    """A builder that a name stands for; a sum such as ``ewc+replay`` has several."""

    name: str  # tells options of the same name apart: ``lwf.alpha``
    builder: Callable[..., Any]  # its keyword-only arguments are the options
    defaults: Mapping[str, Any] = field(default_factory=dict)  # instead of its own


class Described:
    """Stands for a builder that is not imported: what is known of it, to be asked only.

    Args:
        options: its keys, those that the runner supplies left out.
    """

    def __init__(
        self, name: str, doc: str | None, options: Mapping[str, Option]
    ) -> None:
        self.__name__, self.__doc__, self.options = name, doc, options

    def __call__(self, *given: Any, **options: Any) -> Any:
        raise TypeError(f"{self.__name__} is described here, not imported")


@cache
def signature_options(
    builder: Callable[..., Any], supplied: frozenset[str] = frozenset()
) -> Mapping[str, Option]:
    """Read the keyword-only arguments of a function, class or dataclass.

    Args:
        supplied: arguments that are no user's keys.
    Raises: TypeError for an argument without default, or of a type no key can have.
    """
    if isinstance(builder, Described):
        return builder.options
    texts, found, hints = argument_help(builder), {}, {}
    if is_dataclass(builder):  # inherited fields are typed in the base class's module
        hints = get_type_hints(builder, include_extras=True)
    for p in inspect.signature(builder, eval_str=not hints).parameters.values():
        if p.kind is p.KEYWORD_ONLY and p.name not in supplied:
            if p.default is p.empty:
                raise TypeError(f"{builder.__name__}: {p.name} has no default")
            kind, text = hints.get(p.name, p.annotation), texts.get(p.name, "")
            describe(kind)
            found[p.name] = Option(p.name, kind, p.default, text)
    return found


class Group:
    """The builders that a key such as ``model`` chooses from.

    Args:
        builders: by name; the literal dict of the room that holds them.
        supplied: keyword-only arguments that the runner gives, so no user's keys.
        sums: names may be sums such as ``ewc+replay``; ``builders`` are lists then.
        presets: by name; None: those of ``configs/``, read when they are needed.
    """

    def __init__(
        self,
        name: str,
        builders: Mapping[str, Callable[..., Any]],
        supplied: Collection[str] = (),
        sums: bool = False,
        presets: Callable[[], Mapping[str, Preset]] | None = None,
    ) -> None:
        self.name, self.builders, self.sums = name, builders, sums
        self.supplied = frozenset(supplied)
        self._presets = presets or partial(presets_of_the_tree, name)

    @property
    def presets(self) -> Mapping[str, Preset]:
        return self._presets()

    @property
    def names(self) -> list[str]:
        """All builders and presets, sums left out."""
        return [*{**self.builders, **self.presets}]

    def expanded(self, name: object, key: str = "") -> str:
        """The name of what is built: presets give way to what they are presets of.

        Args:
            key: what chose it, if not that of the group.
        Raises: ConfigError with the nearest name if there is no such builder.
        """
        known = {preset.name: preset.preset_of for preset in self.presets.values()}
        built = "+".join(known.get(word, word) for word in str(name).split("+"))
        try:
            if isinstance(name, str) and self._parts(built):
                return built
        except KeyError:
            pass
        except ValueError as error:
            raise ConfigError(str(error)) from error
        key = key or self.name
        if isinstance(name, (list, tuple)) and name:
            hint = as_typed("-m", f"{key}={','.join(map(shown, name))}")
            raise ConfigError(f"there is no {key}={shown(name)}; a run of each: {hint}")
        wrong, words = str(name), str(name).split("+")
        if all(words):  # else DER++
            wrong = next(word for word in words if word not in self.names)
        titles = {each: self.summary(each) for each in self.builders}
        hint = nearest(wrong, self.names, titles)
        raise ConfigError(f"there is no {key}={name}; {hint}")

    def parts(self, name: str) -> list[Part]:
        """What is built, with the values of the presets that the name holds."""
        parts = {part.name: part for part in self._parts(self.expanded(name))}
        for preset in filter(None, map(self.presets.get, name.split("+"))):
            base = self._parts(preset.preset_of)
            for part, values in self._deal(preset.name, base, preset.options):
                if part.name in parts:
                    defaults = {**parts[part.name].defaults, **values}
                    parts[part.name] = replace(parts[part.name], defaults=defaults)
        return list(parts.values())

    def build(self, name: str, *given: Any, **options: Any) -> Any:
        """Call the one builder of a name that is no sum, with the preset's values."""
        (part,) = self.parts(name)
        return part.builder(*given, **{**part.defaults, **options})

    def options(self, name: str) -> dict[str, Option]:
        """Its keys; one that several parts have is told apart as ``part.key``."""
        return {key: option for key, _, option in self._keys(self.parts(name))}

    def defaults(self, name: str) -> dict[str, Any]:
        """The values of all keys that are not set."""
        options = self.options(name).items()
        return {
            k: convert(o.default, o.annotation, f"{self.name}.{k}") for k, o in options
        }

    def split(
        self, name: str, options: Mapping[str, Any]
    ) -> list[tuple[Part, dict[str, Any]]]:
        """Deal values by key out to the parts, by the names of their arguments.

        Raises: ConfigError for a key that no part has.
        """
        return self._deal(name, self.parts(name), options)

    def summary(self, name: str) -> str:
        """One paragraph: what the preset says of itself, or the builders' docstrings."""
        preset = self.presets.get(name)
        if preset and preset.help:
            return preset.help
        return " + ".join(summary(part.builder) for part in self.parts(name))

    def _parts(self, name: str) -> list[Part]:
        """Raises: KeyError for an unknown name; ValueError for a sum that adds nothing."""
        if not self.sums:
            return [Part(name, self.builders[name])]
        words = name.split("+")
        if "naive" in words and len(words) > 1:
            others = "+".join(word for word in words if word != "naive")
            raise ValueError(
                f"{self.name}={name}: naive adds nothing to a sum; use "
                f"{self.name}={others or 'naive'} instead"
            )
        found = []
        for word in words:
            classes: Any = self.builders[word]
            first, *rest = classes
            found += [Part(word, first)]
            found += [Part(f"{word}.{c.__name__}", c) for c in rest]
        (builder, n), *_ = Counter(part.builder for part in found).most_common(1)
        if n > 1:
            raise ValueError(
                f"{self.name}={name} has {builder.__name__} more than once: leave one of "
                "the names out instead"
            )
        return found

    def _deal(
        self, name: str, parts: Sequence[Part], options: Mapping[str, Any]
    ) -> list[tuple[Part, dict[str, Any]]]:
        dealt: dict[str, dict[str, Any]] = {part.name: {} for part in parts}
        owners = {key: (part.name, o.name) for key, part, o in self._keys(parts)}
        for key, value in options.items():
            if key not in owners:
                whose = f"{self.name}={name}; {nearest(key, owners)}"
                raise ConfigError(f"{self.name}.{key} is not a key of {whose}")
            part, argument = owners[key]
            dealt[part][argument] = value
        return [(part, dealt[part.name]) for part in parts]

    def _keys(self, parts: Sequence[Part]) -> Iterator[tuple[str, Part, Option]]:
        read = [(p, signature_options(p.builder, self.supplied)) for p in parts]
        n_parts = Counter(name for _, options in read for name in options)
        for part, options in read:
            for name, option in options.items():
                key = f"{part.name}.{name}" if n_parts[name] > 1 else name
                default = part.defaults.get(name, option.default)
                yield key, part, replace(option, default=default)
