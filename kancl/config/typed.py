"""From the plain nested mapping that Hydra composes to a RunConfig, and back."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any, Mapping, get_type_hints

from kancl.config.groups import Group
from kancl.config.schema import (
    AT_LEAST,
    AT_MOST,
    GROUP_KEYS,
    GROUPS,
    NOT_HASHED,
    SECTIONS,
    Choice,
    RunConfig,
)
from kancl.config.values import ConfigError, convert, describe, nearest

_HINTS = get_type_hints(RunConfig)
_TOP = {
    f.name: f.default
    for f in dataclasses.fields(RunConfig)
    if f.name not in (*GROUPS, *SECTIONS, *GROUP_KEYS.values(), "match_to")
}


def keys(groups: Mapping[str, Group], names: Mapping[str, object]) -> set[str]:
    """Every dotted key of a run that chose the builders ``names``.

    Args:
        names: builder of each group, and of ``match_to``.
    """
    found = {*GROUPS, *_TOP, "match_to"}
    found |= {f"{group}.{key}" for group, key in GROUP_KEYS}
    for section, kind in SECTIONS.items():
        found |= {f"{section}.{f.name}" for f in dataclasses.fields(kind)}
    for key in (*GROUPS, "match_to"):
        group = groups["model" if key == "match_to" else key]
        found |= {f"{key}.{option}" for option in group.options(names[key])}
    return found


def typed(mapping: Mapping[str, Any], groups: Mapping[str, Group]) -> RunConfig:
    """Check every key and value; what is left out takes its default.

    Raises: ConfigError naming the culprit and the nearest right key or value.
    """
    _refuse_targets(mapping, "")
    _refuse_unknown(mapping, "", {*GROUPS, *SECTIONS, *_TOP, "match_to"})
    fields: dict[str, Any] = {}
    for group in GROUPS:
        fields[group] = _choice(mapping.get(group), group, groups[group])
    for (group, key), field in GROUP_KEYS.items():
        given, default = mapping[group], RunConfig.__dataclass_fields__[field].default
        fields[field] = _value(given, key, f"{group}.{key}", _HINTS[field], default)
    for section, kind in SECTIONS.items():
        fields[section] = _section(
            _mapping(mapping.get(section), section), section, kind
        )
    for key, default in _TOP.items():
        fields[key] = _value(mapping, key, key, _HINTS[key], default)
    reference = mapping.get("match_to", "kan")
    reference = {"name": reference} if isinstance(reference, str) else reference
    config = RunConfig(
        **fields, match_to=_choice(reference, "match_to", groups["model"])
    )
    if config.is_matched:
        return config
    return dataclasses.replace(config, match_to=Choice(config.match_to.name, {}))


def plain(config: RunConfig) -> dict[str, Any]:
    """The same as a nested dict of YAML's types; ``typed`` of it gives it back."""
    result: dict[str, Any] = {}
    for group in GROUPS:
        choice = getattr(config, group)
        result[group] = {"name": choice.name, **choice.options}
    for (group, key), field in GROUP_KEYS.items():
        result[group][key] = getattr(config, field)
    for section in SECTIONS:
        result[section] = dataclasses.asdict(getattr(config, section))
    for key in _TOP:
        result[key] = getattr(config, key)
    result["match_to"] = {"name": config.match_to.name, **config.match_to.options}
    listed: dict[str, Any] = _lists(result)
    return listed


def defaults() -> dict[str, Any]:
    """The fixed part with its defaults, as ``configs/config.yaml`` shows it."""
    sections = {name: dataclasses.asdict(kind()) for name, kind in SECTIONS.items()}
    return {**sections, **_TOP, "match_to": RunConfig.match_to.name}


def kinds() -> dict[str, str]:
    """What each key of the fixed part takes, in words, by its dotted key."""
    hints = {key: _HINTS[key] for key in _TOP}
    hints |= {f"{g}.{key}": _HINTS[field] for (g, key), field in GROUP_KEYS.items()}
    for section, kind in SECTIONS.items():
        hints |= {f"{section}.{k}": hint for k, hint in get_type_hints(kind).items()}
    least = {
        k: f", at least {n}" if n else ", not negative" for k, n in AT_LEAST.items()
    }
    return {key: describe(hint) + least.get(key, "") for key, hint in hints.items()}


def fingerprint(config: RunConfig) -> str:
    """8 hex digits of everything that decides what the run is (see NOT_HASHED)."""
    result = plain(config)
    for key in NOT_HASHED:
        section, _, name = key.rpartition(".")
        del (result[section] if section else result)[name]
    result = {key: value for key, value in result.items() if value != {}}
    text = json.dumps(result, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _choice(given: object, key: str, group: Group) -> Choice:
    values = dict(_mapping(given, key))
    if "name" not in values:
        raise ConfigError(f"{key} needs a name; {nearest('', group.builders)}")
    name = values.pop("name")
    options = group.options(name)
    extra = {extra for owner, extra in GROUP_KEYS if owner == key}
    _refuse_unknown(values, f"{key}.", {*options, *extra}, f" of {key}={name}")
    return Choice(
        str(name),
        {
            option.name: _value(
                values,
                option.name,
                f"{key}.{option.name}",
                option.annotation,
                option.default,
            )
            for option in options.values()
        },
    )


def _section(values: Mapping[str, Any], section: str, kind: Any) -> Any:
    names = {f.name: f.default for f in dataclasses.fields(kind)}
    _refuse_unknown(values, f"{section}.", names)
    hints = get_type_hints(kind)
    return kind(
        **{
            name: _value(values, name, f"{section}.{name}", hints[name], default)
            for name, default in names.items()
        }
    )


def _value(
    values: Mapping[str, Any], name: str, key: str, annotation: Any, default: Any
) -> Any:
    value = convert(values.get(name, default), annotation, key)
    if value is not None and key in AT_LEAST and value < AT_LEAST[key]:
        raise ConfigError(f"{key} must be at least {AT_LEAST[key]}, not {value}")
    if value is not None and key in AT_MOST and value > AT_MOST[key]:
        raise ConfigError(f"{key} must be at most {AT_MOST[key]}, not {value}")
    return value


def _mapping(value: object, key: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key} takes keys such as {key}.name, not {value}")
    return value


def _refuse_unknown(
    values: Mapping[str, Any], prefix: str, known: Any, whose: str = ""
) -> None:
    for key in values:
        if key not in known:
            names = [prefix + name for name in known]
            raise ConfigError(
                f"{prefix}{key} is not a key{whose}; {nearest(f'{prefix}{key}', names)}"
            )


def _refuse_targets(value: object, key: str) -> None:
    """A configuration names builders of a dict, never Python objects to import."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if str(name).startswith("_") and str(name).endswith("_"):
                raise ConfigError(
                    f"{key}{name} is refused: a configuration cannot name Python "
                    "objects; use the name of a builder, such as model=kan"
                )
            _refuse_targets(inner, f"{key}{name}.")
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _refuse_targets(inner, key)


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_lists(inner) for inner in value]
    return value
