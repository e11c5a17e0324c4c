"""From the plain nested mapping of a configuration to a RunConfig, and back."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from operator import attrgetter
from typing import Any

from kancl.config.files import flat, nested
from kancl.config.groups import Group, Option
from kancl.config.schema import (
    CHOICES,
    FIXED,
    GROUPS,
    NOT_HASHED,
    SECTIONS,
    TOP,
    Choice,
    RunConfig,
)
from kancl.config.values import (
    ConfigError,
    as_typed,
    convert,
    is_name,
    nearest,
    shown,
)

Groups = Mapping[str, Group]
Values = Mapping[str, Any]


def all_options(groups: Groups, names: Mapping[str, str]) -> dict[str, Option]:
    """Every dotted key of a run that made these choices, and what it takes.

    Raises: ConfigError with the nearest name if there is no such builder.
    """
    found = dict(FIXED)
    for key in CHOICES:
        options = group_of(groups, key).options(names[key])
        found |= {f"{key}.{name}": option for name, option in options.items()}
    return found


def typed(mapping: Values, groups: Groups) -> RunConfig:
    """Check every key and value; what is left out takes its default.

    Raises: ConfigError naming the culprit and the nearest right key or value.
    """
    values = flat(mapping)
    for key in values:
        if key.partition(".")[0] not in TOP:
            raise ConfigError(f"{key} is not a key; {nearest(key, TOP)}")
    config, unknown = resolved(values, groups)
    for message in unknown.values():
        raise ConfigError(message)
    return config


def resolved(values: Values, groups: Groups) -> tuple[RunConfig, dict[str, str]]:
    """The configuration of dotted keys, and what is wrong with keys that it lacks.

    Raises: ConfigError for a wrong name or value.
    """
    chosen = {key: _choice(key, values, group_of(groups, key)) for key in CHOICES}
    names = {key: whose for key, (_, whose) in chosen.items()}
    options = all_options(groups, names)
    checked = {
        key: convert(values.get(key, option.default), option.annotation, key)
        for key, option in options.items()
    }
    made = nested({option.name: checked.pop(key) for key, option in FIXED.items()})
    made |= {section: kind(**made[section]) for section, kind in SECTIONS.items()}
    for key, (choice, _) in chosen.items():
        pairs = ((k.partition("."), value) for k, value in checked.items())
        own = {option: value for (chooser, _, option), value in pairs if chooser == key}
        made[key] = replace(choice, options=own)
    config = RunConfig(**made)
    if not config.is_matched:
        config = replace(config, match_to=replace(config.match_to, options={}))
    known = {f"{key}{end}" for key in CHOICES for end in ("", ".name", ".preset_of")}
    known |= {section for section in SECTIONS if values.get(section) in (None, {})}
    unknown = [key for key in values if key not in options.keys() | known]
    return config, {
        key: _unknown(key, values[key], options, groups, names) for key in unknown
    }


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


def hashed(config: RunConfig) -> dict[str, Any]:
    """Everything that decides what the run is, by dotted key (see NOT_HASHED)."""
    return {k: v for k, v in flat(plain(config)).items() if k not in NOT_HASHED}


def fingerprint(config: RunConfig, own: Mapping[str, str] = {}) -> str:
    """8 hex digits of what is ``hashed``.

    Args:
        own: digests of code and data of one's own; that of a key's file by the key.
    """
    text = json.dumps({**hashed(config), **own}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def changed(config: RunConfig, groups: Groups) -> dict[str, Any]:
    """What decides the run and is not by default so; names of builders and seed left out."""
    names = {key: getattr(config, key).builder for key in CHOICES}
    for key in CHOICES:  # a preset of the tree has defaults of its own
        if (name := getattr(config, key).name) in group_of(groups, key).names:
            names[key] = name
    values = hashed(config)
    return {
        key: values[key]
        for key, option in all_options(groups, names).items()
        if key in values and not key.startswith(("match_to.", "seed"))
        if values[key] != _lists(convert(option.default, option.annotation, key))
    }


def owners_of(key: str, groups: Groups) -> list[str]:
    """The names of builders that have a key such as ``model.hidden``."""
    chooser, _, option = key.partition(".")
    if chooser not in CHOICES:
        return []
    group = group_of(groups, chooser)
    return [name for name in group.names if option in group.options(name)]


def group_of(groups: Groups, key: str) -> Group:
    """The builders that a key chooses from."""
    return groups["model" if key == "match_to" else key]


def _choice(key: str, values: Values, group: Group) -> tuple[Choice, str]:
    """The choice, still without options, and the name whose options it has."""
    default = RunConfig.match_to.name if key == "match_to" else None
    name = values.get(f"{key}.name", values.get(key, default))
    preset_of = values.get(f"{key}.preset_of", "")
    if name is None:
        raise ConfigError(f"{key} needs a name; {nearest('', group.names)}")
    if isinstance(name, str) and all(name.split("+")):
        # a sum is the same run in any order
        name = "+".join(sorted(name.split("+")))
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
    return Choice(name, {}, "" if built == name else built), whose


def _unknown(
    key: str,
    value: Any,
    known: Iterable[str],
    groups: Groups,
    names: Mapping[str, str],
) -> str:
    """Say that there is no such key, whose it is, or which one was probably meant."""
    chooser = key.partition(".")[0]
    if key in SECTIONS:
        inside = [name for name in FIXED if name.startswith(f"{key}.")]
        several = "; several runs: 'seed=range(5)'" if key == "seeds" else ""
        return f"{key} takes no value, but has keys: {', '.join(inside)}{several}"
    if chooser not in CHOICES or chooser == key:
        words = {name for name in known if not name.startswith("match_to.")}
        hint = nearest(key, words | {*CHOICES})
        for group in GROUPS if hint.startswith("one of") else ():
            if owners := owners_of(f"{group}.{key}", groups):
                line = as_typed(f"{group}={owners[0]}", f"{group}.{key}={shown(value)}")
                return f"{key} is not a key; nearest: {line}"
        start, _, name = hint.partition("nearest: ")
        if name and not start and " " not in name:
            hint = f"nearest: {as_typed(f'{name}={shown(value)}')}"
        return f"{key} is not a key; {hint}"
    whose = f"{chooser}={names[chooser]}"
    own = [k for k in known if k.startswith(f"{chooser}.") and k != key]
    if shared := [k for k in own if k.endswith(key.removeprefix(chooser))]:
        return f"{key} is not a key of {whose}, which has {' and '.join(shared)}"
    if owners := owners_of(key, groups):
        owned = ", ".join(f"{chooser}={owner}" for owner in owners)
        return f"{key} is not a key of {whose}, but of {owned}"
    return f"{key} is not a key of {whose}; {nearest(key, own)}"


def _lists(value: Any) -> Any:
    return [_lists(inner) for inner in value] if isinstance(value, tuple) else value
