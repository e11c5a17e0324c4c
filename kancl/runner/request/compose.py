"""From overrides (``model=mlp seed=range(3)``) to typed run configurations.

Hydra parses the overrides; every key and value of every run is checked before the
first one starts.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kancl.config import (
    ConfigError,
    Preset,
    RunConfig,
    config_dir,
    nearest,
    plain,
    read_preset,
    typed,
)
from kancl.config.files import flat, nested, read_mapping
from kancl.config.schema import CHOICES
from kancl.config.schema import GROUPS as GROUP_NAMES
from kancl.config.typed import all_options, group_of, owners_of, unknown_key
from kancl.runner.identity import run_folder
from kancl.runner.request.experiments import expanded
from kancl.runner.request.registry import GROUPS
from kancl.runner.studies.engines import EXTRAS, is_installed


@dataclass(frozen=True)
class Request:
    """What a command line asks for.

    Args:
        configs: one per run, no two alike.
        launcher: the overrides that choose one of Hydra's launchers.
    """

    configs: Sequence[RunConfig]
    launcher: Sequence[str]


@dataclass(frozen=True)
class _Job:
    """One run: its keys and values, and what is wrong with keys that it doesn't know."""

    values: Mapping[str, Any]
    unknown: Mapping[str, str]

    def config(self) -> RunConfig:
        try:
            config = OmegaConf.create(nested(self.values))
            content: Any = OmegaConf.to_container(config, resolve=True)
        except OmegaConfBaseException as error:
            raise ConfigError(_first_line(error)) from error
        return typed(content, GROUPS)


def read_request(overrides: Sequence[str], sweep: bool) -> Request:
    """Compose and check every run that the overrides, or an experiment, ask for.

    Args:
        sweep: whether ``key=a,b`` and ``key=range(n)`` ask for several runs.

    Raises: ConfigError naming the culprit and the nearest right key or value.
    """
    variants, typed_in, is_experiment = expanded(overrides)
    defaults = read_mapping(config_dir() / "config.yaml")
    defaults["match_to"] = RunConfig.match_to.name
    jobs: list[tuple[Mapping[str, Any], _Job]] = []
    launcher: list[str] = []
    for variant in variants:
        ours: dict[str, Override] = {}
        for override in map(_parsed, variant):
            if not override.is_hydra_override():
                _check_form(override, sweep or is_experiment)
                ours[override.key_or_group] = override
            elif override.input_line not in typed_in:
                raise ConfigError(
                    f"{override.input_line} is refused in an experiment's file; type it "
                    "after kancl run"
                )
            else:
                _check_launcher(override)
        for product in itertools.product(*(_values(o) for o in ours.values())):
            values = dict(zip(ours, product))
            jobs.append((values, _composed(values, defaults)))
    own = [_parsed(text) for text in typed_in]
    said = {o.key_or_group for o in own if not o.is_hydra_override()}
    launcher = [str(o.input_line) for o in own if o.is_hydra_override()]
    if not said & {*GROUP_NAMES}:  # otherwise an experiment's keys of the old one go
        said |= {key for values, _ in jobs for key in values}
    for key in sorted(said):
        asked = [job for values, job in jobs if key in values]
        if all(key in job.unknown for job in asked):
            raise ConfigError(asked[0].unknown[key])
    configs = [job.config() for _, job in jobs]
    return Request(
        list({repr(config): config for config in configs}.values()), launcher
    )


def read_folder(folder: str | Path, overrides: Sequence[str]) -> RunConfig:
    """The configuration of a run folder, with single keys changed.

    The run goes where the folder lies, or into ``logs`` if that is no place of runs: a
    stranger's folder does not say where anything is written.

    Raises: ConfigError if there is none, or for a wrong key or value.
    """
    path = Path(folder) / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"there is no {path}: --from takes a run folder")
    theirs = typed(read_mapping(path), GROUPS)
    base = flat(plain(theirs)) | {"log_dir": _log_dir_around(path.parent, theirs)}
    values = {}
    for override in map(_parsed, overrides):
        _check_form(override, sweep=False)
        key = override.key_or_group
        if key in GROUP_NAMES:
            raise ConfigError(f"--from keeps its {key}; only keys inside can change")
        values[key] = override.value()
    job = _composed(values, base)
    for message in job.unknown.values():
        raise ConfigError(message)
    return job.config()


def launchers() -> list[str]:
    """Names of the launchers that are installed."""
    Plugins.instance()  # which registers them
    names = ConfigStore.instance().list("hydra/launcher")
    return [name for name in (Path(n).stem for n in names) if is_installed(name)]


def _log_dir_around(folder: Path, config: RunConfig) -> str:
    """Three folders up, if these are called as those of such a run are."""
    names = folder.absolute().parts
    if names[-3:-1] != run_folder(config).parts[-3:-1]:
        return "logs"
    return os.path.normpath(folder / ".." / ".." / "..")


def _composed(said: dict[str, Any], base: Mapping[str, Any]) -> _Job:
    """Set values on a base, and below them what the chosen presets set.

    Args:
        said: by dotted key.
        base: names by group, or all keys of a resolved configuration.
    """
    values, presets, own = dict(base), list[Preset](), dict[str, Any]()
    for key in CHOICES:
        if key in said or key in base:
            choice, its_presets, options = _chosen(key, said.get(key, base.get(key)))
            values = {k: v for k, v in values.items() if k.split(".")[0] != key}
            values |= choice
            own |= options
            presets += its_presets if key != "match_to" else []
    names = {key: values[f"{key}.name"] for key in CHOICES}
    bases = {key: values.get(f"{key}.preset_of", names[key]) for key in CHOICES}
    known = all_options(GROUPS, bases)
    for preset in presets:
        facts = values | own | said | names
        settings = preset.settings_for(facts)
        theirs = preset.settings_for(facts | {"model": names["match_to"]})
        settings = {_of_reference(key): v for key, v in theirs.items()} | settings
        if "training.epochs" in said:
            settings.pop("training.iterations", None)
        for key in settings:
            if key not in known and not owners_of(key, GROUPS):
                raise ConfigError(unknown_key(key, known, GROUPS, bases))
        values |= {key: v for key, v in settings.items() if key in known}
    for key in own.keys() - known.keys():
        raise ConfigError(unknown_key(key, known, GROUPS, bases))
    values |= own
    unknown = {}
    is_matched = (values | said).get("match", "none") != "none"
    for key, value in said.items():
        meant = [key]
        if is_matched and _of_reference(key) not in said:
            meant.append(_of_reference(key))
        heard = [key for key in meant if key in known]
        values |= dict.fromkeys(heard, value)
        if not heard and key not in CHOICES:
            unknown[key] = unknown_key(key, known, GROUPS, bases)
    return _Job(values, unknown)


def _of_reference(key: str) -> str:
    """The key of the model that is matched to, for one of ``model``."""
    return key.replace("model.", "match_to.", 1) if key.startswith("model.") else key


def _chosen(key: str, name: Any) -> tuple[dict[str, Any], list[Preset], dict[str, Any]]:
    """The values that a name stands for, the presets in it, and those of a user's file."""
    group = group_of(GROUPS, key)
    if not isinstance(name, str) or not name.endswith(".yaml"):
        group.expanded(name, key)
        held = [p for word, p in group.presets.items() if word in str(name).split("+")]
        return {f"{key}.name": name}, held, {}
    preset = read_preset(Path(name))
    if preset.name in group.names:
        raise ConfigError(f"{name}: there is a {key}={preset.name}; rename the file")
    _, held, _ = _chosen(key, preset.preset_of)
    values = {"name": preset.name, "preset_of": group.expanded(preset.preset_of)}
    values |= group.defaults(preset.preset_of)
    below, own = nested({key: values}), nested({key: preset.options})
    return flat(below), [*held, preset], flat(own)


def _parsed(text: str) -> Override:
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise ConfigError(
            f"cannot read {text!r}: {_first_line(error)}; an override looks like "
            "training.epochs=2 or model.hidden=[64,64]"
        ) from error


def _values(override: Override) -> list[Any]:
    """All values of a sweep; the one value of anything else."""
    key, value = override.key_or_group, override.value()
    if isinstance(value, Glob) and key in CHOICES:
        return value.filter(group_of(GROUPS, key).names)
    if not override.is_sweep_override():
        return [value]
    texts = list(override.sweep_string_iterator())
    if not texts:
        raise ConfigError(f"{override.input_line} asks for no run")
    return [_parsed(f"{key}={text}").value() for text in texts]


def _check_form(override: Override, sweep: bool) -> None:
    key, text = override.key_or_group, override.input_line
    if override.is_delete() or override.package is not None:
        raise ConfigError(f"{text} is refused: keys cannot be moved")
    if any(part.startswith("_") for part in key.split(".")):
        raise ConfigError(
            f"{key} is refused: a configuration cannot name Python objects; "
            "use the name of a builder, such as model=kan"
        )
    choice, _, inner = key.partition(".")
    if inner in ("name", "preset_of"):
        raise ConfigError(f"{key} cannot be set; nearest: {choice}={override.value()}")
    if override.is_sweep_override() and not override.is_discrete_sweep():
        raise ConfigError(f"{text}: name the values, as a,b or range")
    if override.is_sweep_override() and not sweep:
        raise ConfigError(f"{text} asks for several runs; add -m")


def _check_launcher(override: Override) -> None:
    key, chosen = override.key_or_group, override.value()
    if key != "hydra/launcher" and not key.startswith("hydra.launcher."):
        raise ConfigError(
            f"{key} is not a key; of Hydra's own keys, runs take hydra/launcher and "
            "hydra.launcher.*"
        )
    if "_target_" in str(override.input_line):
        raise ConfigError(f"{key} is refused; nearest: hydra/launcher")
    known = {*launchers(), *EXTRAS}
    if key == "hydra/launcher" and chosen not in known:
        raise ConfigError(f"there is no {key}={chosen}; {nearest(chosen, known)}")


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
