"""From overrides (``model=mlp seed=range(3)``) to typed run configurations.

Hydra parses the overrides; every key and value of every run is checked before the
first one starts.
"""

import itertools
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException

from kancl.config import ConfigError, RunConfig, config_dir, nearest, plain, typed
from kancl.config.files import TYPED, Preset, flat, read_mapping, read_preset
from kancl.config.schema import CHOICES, FIXED
from kancl.config.schema import GROUPS as GROUP_NAMES
from kancl.config.typed import group_of, owners_of, resolved
from kancl.config.values import as_typed, shown
from kancl.runner import installed
from kancl.runner.request.experiments import expanded
from kancl.runner.request.known import known_groups
from kancl.threads import thread_lock

MOST_RUNS = 10_000
"""Runs that one line may ask for."""
_PARSING = thread_lock()
"""Hydra's parser keeps what it has learned of its grammar, for all threads."""


class Request(NamedTuple):
    """Runs, no two alike, the overrides that choose one of Hydra's launchers, and what
    several runs are called together.
    """

    configs: Sequence[RunConfig]
    launcher: Sequence[str]
    name: str | None = None


def read_request(overrides: Sequence[str], sweep: bool) -> Request:
    """Compose and check every run that the overrides, or an experiment, ask for.

    Raises: ConfigError naming the culprit and the nearest right key or value.
    """
    for before, word in zip(overrides, overrides[1:]):
        if before.endswith("=") and "=" not in word:
            why = "there is a space after ="
            raise ConfigError(
                f"{before} {word}: {why}; nearest: {as_typed(before + word)}"
            )
    variants, own, is_experiment = expanded(overrides)
    base = {"match_to": RunConfig.match_to.name}
    base |= read_mapping(config_dir() / "config.yaml")
    launcher = [o for o in map(parsed, own) if o.is_hydra_override()]
    for override in launcher:
        _check_launcher(override)
    typed_keys = {o.key_or_group: o.value() for o in map(parsed, own)}
    if {"training.epochs", "training.iterations"} <= {
        k for k, v in typed_keys.items() if v
    }:
        why = "training.iterations counts batches instead of training.epochs"
        raise ConfigError(f"{why}: set one of them only")
    composed = []
    for variant in variants:
        ours: dict[str, Override] = {}
        for override in map(parsed, variant):
            key = override.key_or_group
            if override.input_line not in own and _must_be_typed(override):
                why = "is refused in an experiment's file; type it after kancl run"
                raise ConfigError(f"{override.input_line} {why}")
            if not override.is_hydra_override():
                _check_form(override, sweep or is_experiment)
                ours[key] = override
        values = [*map(_values, ours.values())]
        _check_number(" ".join(variant), math.prod(map(len, values)))
        for product in itertools.product(*values):
            said = dict(zip(ours, product))
            composed.append((said, *_composed(said, base)))
    keys = dict.fromkeys(parsed(text).key_or_group for text in own)
    if keys.keys().isdisjoint(GROUP_NAMES):
        # an experiment's keys too, unless others than its builders are typed
        keys |= dict.fromkeys(key for said, _, _ in composed for key in said)
    for key in keys:  # in a sweep, some runs may lack it, but not all
        messages = [unknown.get(key) for said, _, unknown in composed if key in said]
        if messages and all(messages):
            raise ConfigError(messages[0])
    unlike = {repr(config): config for _, config, _ in composed}
    configs, chosen = [*unlike.values()], [str(o.input_line) for o in launcher]
    first, *others = dict.fromkeys(config.name for config in configs)
    if others:
        raise ConfigError(
            f"name={first},{others[0]}: runs that are compared have one name"
        )
    if len(configs) == 1:
        return Request(configs, chosen)
    return Request([replace(config, name=None) for config in configs], chosen, first)


def read_folder(folder: str | Path, overrides: Sequence[str]) -> RunConfig:
    """The configuration of a run folder, with single keys changed.

    The run goes where the folder lies, or into ``logs`` if that is no place of runs, and
    is written nowhere else; the data are read where the folder says, if there are any.

    Raises: ConfigError if there is none, or for a wrong key or value.
    """
    from kancl.runs.files import folder_called

    path = folder_called(folder) / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"there is no {path}: --from takes a run folder")
    from kancl.runner.identity import run_folder

    theirs = typed(read_mapping(path), known_groups())
    around = os.path.normpath(path.parent / ".." / ".." / "..")
    if path.parent.absolute().parts[-3:-1] != run_folder(theirs).parts[-3:-1]:
        around = "logs"
    base, said = flat(plain(theirs)), dict[str, Any]()
    base = {key: v for key, v in base.items() if key not in TYPED} | {"log_dir": around}
    if theirs.data_dir is not None and Path(theirs.data_dir).expanduser().is_dir():
        base["data_dir"] = theirs.data_dir
    for override in map(parsed, overrides):
        _check_form(override, sweep=False)
        key = override.key_or_group
        if key in GROUP_NAMES:
            raise ConfigError(f"--from keeps its {key}; only keys inside can change")
        said[key] = override.value()
    config, unknown = _composed(said, base)
    for message in unknown.values():
        raise ConfigError(message)
    return config


def _composed(
    said: dict[str, Any], base: Mapping[str, Any]
) -> tuple[RunConfig, dict[str, str]]:
    """Set values on a base, by dotted key, and between them what the chosen presets set.

    Returns: the run, and what is wrong with those of ``said`` that it doesn't know.
    """
    values, own, held = dict(base), dict[str, Any](), list[Preset]()
    for key in CHOICES:
        word = said.get(key, values.pop(key, None))
        if word is None and key not in said:
            continue
        values = {k: v for k, v in values.items() if not k.startswith(f"{key}.")}
        group, files = group_of(known_groups(), key), list[Preset]()
        values[f"{key}.name"] = word
        if isinstance(word, str) and word.endswith(".yaml"):
            preset = read_preset(Path(word))
            if preset.name in group.names:
                raise ConfigError(f"{word}: there is a {key}={preset.name}; rename it")
            word, files = preset.preset_of, [preset]
            choice = {"name": preset.name, "preset_of": group.expanded(word)}
            values |= flat({key: {**group.defaults(word), **choice}})
            own |= flat({key: preset.options})
        if key != "match_to":
            words = str(word).split("+")
            held += [p for name, p in group.presets.items() if name in words] + files
    names = {key: values[f"{key}.name"] for key in CHOICES}
    facts, settings = values | own | said | names, dict[str, Any]()
    for preset in held:
        theirs = preset.settings_for(facts | {"model": names["match_to"]})
        for key, value in theirs.items():
            if key.startswith("model."):
                settings[_of_reference(key)] = value
        settings |= preset.settings_for(facts)
    values |= settings | own
    ours = {key: value for key, value in said.items() if key not in CHOICES}
    if "training.epochs" in said:
        values.pop("training.iterations", None)
    reference = {}
    if (values | said).get("match", "none") != "none":
        reference = {_of_reference(key): value for key, value in ours.items()}
    config, unknown = resolved(values | reference | ours, known_groups())
    for key in [*own, *(key for key in settings if not owners_of(key, known_groups()))]:
        if key in unknown:
            raise ConfigError(unknown[key])
    heard = {key for key in ours if _of_reference(key) in reference.keys() - unknown}
    return config, {k: text for k, text in unknown.items() if k in ours.keys() - heard}


def _of_reference(key: str) -> str:
    """The key of the model that is matched to, for one of ``model``."""
    return key.replace("model.", "match_to.", 1) if key.startswith("model.") else key


def parsed(text: str) -> Override:
    if re.fullmatch(r"[\w.+]+", text):
        groups = known_groups()
        whose = [key for key in groups if text in groups[key].names]
        hint = "; ".join(f"nearest: {key}={text}" for key in whose)
        is_key = text in (*FIXED, *CHOICES) or owners_of(text, groups)
        there = f"kancl list {text}" if is_key else "kancl list"
        hint = hint or f"{there} shows what it takes"
        raise ConfigError(f"{text} has no value; {hint}")
    key, is_there, value = text.partition("=")
    if is_there and not key:
        raise ConfigError(f"cannot read {text!r}: {_unread(text)}")
    try:
        with _PARSING:
            if (
                key.isascii()
                and not value.isascii()
                and not re.search(r"[\"'\[]", value)
            ):
                quoted = ",".join(f"'{part}'" for part in value.split(","))
                read = OverridesParser.create().parse_override(f"{key}={quoted}")
                return replace(read, input_line=text)
            return OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise ConfigError(f"cannot read {text!r}: {_unread(text, error)}") from error


def _unread(text: str, error: Exception | None = None) -> str:
    """Why a word is no override, and the nearest that is one."""
    key, is_there, value = text.partition("=")
    if is_there and [key, value] != [key.strip(), value.strip()]:
        nearer = as_typed(f"{key.strip()}={value.strip()}")
        return f"there is a space beside =; nearest: {nearer}"
    if strange := re.search(r"[^\x21-\x7e]", key):
        return f"no key has the letter {strange[0]!r}; kancl list shows the keys"
    if not is_there or not key:
        return "it is not key=value, such as training.epochs=2"
    if re.search(r",\s*(]|$)", value):
        return "no value follows its last comma"
    if value.count("[") != value.count("]") or value.count("(") != value.count(")"):
        return "a bracket has no other; lists look like 'model.hidden=[64,64]'"
    why = str(error).strip().split("\n")[0]
    if " while evaluating " in why:  # interval(1)
        return why.partition("': ")[2]
    return "it is not key=value, or has letters that stand in quotes: 'log_dir=\"a;b\"'"


def _check_number(text: str, n_runs: int) -> None:
    if n_runs > MOST_RUNS:
        raise ConfigError(
            f"{text} asks for more than {MOST_RUNS:,} runs, the most of one line"
        )


def _values(override: Override) -> list[Any]:
    """All values of a sweep; the one value of anything else."""
    key, value = override.key_or_group, override.value()
    if isinstance(value, Glob) and key in CHOICES:
        return value.filter(group_of(known_groups(), key).names)
    if not override.is_sweep_override():
        return [value]
    texts = [*itertools.islice(override.sweep_string_iterator(), MOST_RUNS + 1)]
    _check_number(str(override.input_line), len(texts))
    if not texts:
        raise ConfigError(f"{override.input_line} asks for no run")
    return [parsed(f"{key}={text}").value() for text in texts]


def _check_form(override: Override, sweep: bool) -> None:
    key, text = override.key_or_group, override.input_line
    if override.is_delete() or override.package is not None:
        raise ConfigError(f"{text} is refused: keys are set, not moved or taken away")
    value, (choice, _, inner) = override.value(), key.partition(".")
    if isinstance(value, dict):
        nearer = "".join(f"{key}.{name}={each}" for name, each in [*value.items()][:1])
        raise ConfigError(f"{text} is refused; nearest: {nearer}")
    if inner in ("name", "preset_of"):
        raise ConfigError(f"{key} cannot be set; nearest: {choice}={value}")
    if "${" in str(text):
        why = "values cannot refer to others (${...})"
        raise ConfigError(f"{text} is refused: {why}")
    if override.is_sweep_override() and not override.is_discrete_sweep():
        raise ConfigError(f"{text}: name the values, as a,b or range")
    if override.is_sweep_override() and not sweep:
        raise ConfigError(f"{text} asks for several runs; add -m")


def _must_be_typed(override: Override) -> bool:
    """Whether a file may not set this, unless to its default."""
    key = override.key_or_group
    if key in TYPED:
        return shown(override.value()) != shown(FIXED[key].default)
    return bool(override.is_hydra_override())


def _check_launcher(override: Override) -> None:
    key, chosen = override.key_or_group, override.value()
    if key != "hydra/launcher" and not key.startswith("hydra.launcher."):
        hint = "of Hydra's own keys, runs take hydra/launcher and hydra.launcher.*"
        raise ConfigError(f"{key} is not a key; {hint}")
    if "_target_" in str(override.input_line):
        raise ConfigError(f"{key} is refused; nearest: hydra/launcher")
    known = {*installed.registered(), *installed.EXTRAS}
    if key == "hydra/launcher" and chosen not in known:
        raise ConfigError(f"there is no {key}={chosen}; {nearest(chosen, known)}")
