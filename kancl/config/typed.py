"""From the plain nested mapping of a configuration to a RunConfig, and back."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Any

from kancl.config.files import flat, nested
from kancl.config.groups import Group, Option
from kancl.config.presets import is_name
from kancl.config.schema import (
    CHOICES,
    FIXED,
    NOT_HASHED,
    SECTIONS,
    TOP,
    Choice,
    RunConfig,
)
from kancl.config.values import ConfigError, convert, nearest


def all_options(
    groups: Mapping[str, Group], names: Mapping[str, str]
) -> dict[str, Option]:
    """Every dotted key of a run that made these choices, and what it takes.

    Raises: ConfigError with the nearest name if there is no such builder.
    """
    found = dict(FIXED)
    for key in CHOICES:
        options = group_of(groups, key).options(names[key])
        found |= {f"{key}.{name}": option for name, option in options.items()}
    return found


def typed(mapping: Mapping[str, Any], groups: Mapping[str, Group]) -> RunConfig:
    """Check every key and value; what is left out takes its default.

    Raises: ConfigError naming the culprit and the nearest right key or value.
    """
    given: dict[str, Any] = {"match_to": RunConfig.match_to.name, **mapping}
    if isinstance(given["match_to"], str):
        given["match_to"] = {"name": given["match_to"]}
    values = flat(given)
    _refuse_targets(values)
    for key in values:
        if key.partition(".")[0] not in TOP:
            raise ConfigError(f"{key} is not a key; {nearest(key, TOP)}")
    choices: dict[str, Choice] = {}
    names: dict[str, str] = {}  # whose options these choices have
    for key in CHOICES:
        if not isinstance(given.get(key) or {}, Mapping):
            raise ConfigError(f"{key} takes keys such as {key}.name, not {given[key]}")
        name = values.pop(f"{key}.name", None)
        preset_of = values.pop(f"{key}.preset_of", "")
        choices[key], names[key] = _choice(key, name, preset_of, group_of(groups, key))
    options = all_options(groups, names)
    for key, value in values.items():
        is_empty_section = key in TOP and value in (None, {})
        if key not in options and not is_empty_section:
            raise ConfigError(unknown_key(key, options, groups, names))
    checked = {
        key: convert(values.get(key, option.default), option.annotation, key)
        for key, option in options.items()
    }
    made: dict[str, Any] = {o.name: checked[key] for key, o in FIXED.items()}
    for key, choice in choices.items():
        own = group_of(groups, key).options(names[key])
        chosen = {name: checked[f"{key}.{name}"] for name in own}
        made[key] = dataclasses.replace(choice, options=chosen)
    made = nested(made)
    for section, kind in SECTIONS.items():
        made[section] = kind(**made[section])
    config = RunConfig(**made)
    if config.is_matched:
        return config
    unused = dataclasses.replace(config.match_to, options={})
    return dataclasses.replace(config, match_to=unused)


def plain(config: RunConfig) -> dict[str, Any]:
    """A nested dict of YAML's types; ``typed`` of it gives the configuration back."""
    values: dict[str, Any] = {}
    for key in CHOICES:
        choice: Choice = getattr(config, key)
        values[f"{key}.name"] = choice.name
        if choice.preset_of:
            values[f"{key}.preset_of"] = choice.preset_of
        values |= {f"{key}.{name}": value for name, value in choice.options.items()}
    values |= {key: attrgetter(option.name)(config) for key, option in FIXED.items()}
    return nested({key: _lists(value) for key, value in values.items()})


def fingerprint(config: RunConfig) -> str:
    """8 hex digits of everything that decides what the run is (see NOT_HASHED)."""
    values = {k: v for k, v in flat(plain(config)).items() if k not in NOT_HASHED}
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def unknown_key(
    key: str,
    known: Iterable[str],
    groups: Mapping[str, Group],
    names: Mapping[str, str],
) -> str:
    """Say that there is no such key, whose it is, or which one was probably meant."""
    choice, _, option = key.partition(".")
    if choice not in CHOICES or not option:
        return f"{key} is not a key; {nearest(key, {*known, *CHOICES})}"
    whose = f"{choice}={names[choice]}"
    if owners := owners_of(key, groups):
        owned = ", ".join(f"{choice}={name}" for name in owners)
        return f"{key} is not a key of {whose}, but of {owned}"
    own = [name for name in known if name.startswith(f"{choice}.")]
    return f"{key} is not a key of {whose}; {nearest(key, own)}"


def owners_of(key: str, groups: Mapping[str, Group]) -> list[str]:
    """The names of builders that have a key such as ``model.hidden``."""
    choice, _, option = key.partition(".")
    if choice not in CHOICES:
        return []
    group = group_of(groups, choice)
    return [name for name in group.names if option in group.options(name)]


def group_of(groups: Mapping[str, Group], key: str) -> Group:
    """The builders that a key chooses from."""
    return groups["model" if key == "match_to" else key]


def _choice(key: str, name: Any, preset_of: Any, group: Group) -> tuple[Choice, str]:
    """The choice, still without options, and the name whose options it has."""
    if name is None:
        raise ConfigError(f"{key} needs a name; {nearest('', group.names)}")
    whose = name
    try:
        built = group.expanded(name, key)
    except ConfigError:
        if not preset_of or not is_name(name):
            raise
        whose = preset_of  # a user's own preset, whose values are all written down
        built = group.expanded(preset_of, key)
    if preset_of not in ("", built):
        raise ConfigError(f"{key}={name} is no preset of {preset_of}, but of {built}")
    return Choice(name, {}, built if built != name else ""), whose


def _refuse_targets(values: Mapping[str, Any]) -> None:
    """A configuration names builders of a dict, never Python objects to import."""
    for key, value in values.items():
        for part in key.split("."):
            if part.startswith("_") and part.endswith("_"):
                raise ConfigError(
                    f"{key} is refused: a configuration cannot name Python objects; "
                    "use the name of a builder, such as model=kan"
                )
        for inner in value if isinstance(value, (list, tuple)) else ():
            if isinstance(inner, Mapping):
                _refuse_targets(flat({key: inner}))


def _lists(value: Any) -> Any:
    return [_lists(inner) for inner in value] if isinstance(value, tuple) else value
