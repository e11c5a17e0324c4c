"""From overrides (``model=mlp seed=range(3)``) to typed run configurations.

Hydra reads the tree and parses the overrides; every key and value of every run is
checked before the first one starts.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kancl.config import ConfigError, RunConfig, config_dir, nearest, typed
from kancl.config.groups import Group
from kancl.config.reading import read_mapping
from kancl.config.schema import GROUPS as GROUP_NAMES
from kancl.config.typed import keys
from kancl.runner.identity import run_folder
from kancl.runner.request.experiments import expanded
from kancl.runner.request.registry import GROUPS
from kancl.runner.request.scenario_settings import with_settings
from kancl.runner.studies.engines import is_installed


@dataclass(frozen=True)
class Request:
    """What a command line asks for.

    Args:
        configs: one per run, no two alike.
        launcher: the overrides that choose one of Hydra's launchers.
    """

    configs: Sequence[RunConfig]
    launcher: Sequence[str]


def read_request(overrides: Sequence[str], sweep: bool) -> Request:
    """Compose and check every run that the overrides, or an experiment, ask for.

    Args:
        sweep: whether ``key=a,b`` and ``key=range(n)`` ask for several runs.

    Raises: ConfigError naming the culprit and the nearest right key or value.
    """
    sides, typed_in, is_experiment = expanded(overrides)
    jobs: list[_Job] = []
    keys_said: dict[str, None] = {}
    with _hydra_tree() as tree:
        for side in sides:
            parsed = [tree.parse(text) for text in side]
            hydra = [o for o in parsed if o.is_hydra_override()]
            for override in hydra:
                _check_launcher(override)
                chosen, known = override.value(), tree.options("hydra/launcher")
                if override.key_or_group == "hydra/launcher" and chosen not in known:
                    hint = nearest(chosen, known)
                    raise ConfigError(f"there is no {override.input_line}; {hint}")
                if override.input_line not in typed_in:
                    raise ConfigError(
                        f"{override.input_line} is refused in an experiment's file; "
                        "type it after kancl run"
                    )
            ours = [o for o in parsed if not o.is_hydra_override()]
            for override in ours:
                _check_form(override, sweep or is_experiment)
            last = {override.key_or_group: override for override in ours}
            keys_said |= dict.fromkeys(last)
            products = itertools.product(*(_values(o) for o in last.values()))
            jobs += [tree.job(product) for product in products]
    own = {text.partition("=")[0].lstrip("+~") for text in typed_in}
    if own & {
        *GROUP_NAMES
    }:  # another strategy: the experiment's keys of the old one go
        keys_said = {key: None for key in keys_said if key in own}
    for key in keys_said:
        asked = [job for job in jobs if key in job.said]
        if all(key in job.unknown for job in asked):
            raise ConfigError(asked[0].unknown[key])
    configs = [job.config() for job in jobs]
    unlike = {repr(config): config for config in configs}
    return Request(list(unlike.values()), [str(o.input_line) for o in hydra])


def read_folder(folder: str | Path, overrides: Sequence[str]) -> RunConfig:
    """The configuration of a run folder, with single keys changed.

    The run goes where the folder lies, or into ``logs`` if that is no place of runs: a
    stranger's folder does not say where anything is written.

    Raises: ConfigError if there is none, or for a wrong key or value.
    """
    path = Path(folder) / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"there is no {path}: --from takes a run folder")
    config = OmegaConf.create(read_mapping(path))
    theirs = typed(_container(config), GROUPS)
    config["log_dir"] = _log_dir_around(path.parent, theirs)
    with _hydra_tree() as tree:
        parsed = [tree.parse(text) for text in overrides]
    for override in parsed:
        _check_form(override, sweep=False)
        if override.key_or_group in GROUP_NAMES:
            key = override.key_or_group
            raise ConfigError(f"--from keeps its {key}; only keys inside can change")
    values = {o.key_or_group: o.value() for o in parsed}
    job = _Job(config, values)
    for message in job.unknown.values():
        raise ConfigError(message)
    return job.config()


def _log_dir_around(folder: Path, config: RunConfig) -> str:
    """Three folders up, if these are called as those of such a run are."""
    names = folder.absolute().parts
    if names[-3:-1] != run_folder(config).parts[-3:-1]:
        return "logs"
    return os.path.normpath(folder / ".." / ".." / "..")


def launchers() -> list[str]:
    """Names of the launchers that are installed."""
    with _hydra_tree() as tree:
        return [name for name in tree.options("hydra/launcher") if is_installed(name)]


class _Job:
    """One run: the composed groups, and the values set on top of them."""

    def __init__(self, composed: DictConfig, values: Mapping[str, Any]) -> None:
        self._config = OmegaConf.create(_container(composed))
        names = self._names(values)
        known = keys(GROUPS, names)
        matched = values.get("match", self._config.get("match", "none")) != "none"
        self.said = values.keys() | GROUP_NAMES
        self.unknown: dict[str, str] = {}
        reference: dict[str, Any] = {"name": names["match_to"]}
        kept = self._config.get("match_to")
        if (
            isinstance(kept, DictConfig)
            and values.get("match_to", kept.name) == kept.name
        ):
            reference = _container(kept)
        used: list[str] = []
        for key, value in values.items():
            group, _, option = key.partition(".")
            if key in known and key != "match_to":
                if group == "match_to":
                    reference[option] = value
                else:
                    OmegaConf.update(self._config, key, value, force_add=True)
                used.append(key)
            if group == "model" and f"match_to.{option}" in known and matched:
                reference.setdefault(option, value)
                used.append(key)
            if key not in used and key != "match_to":
                self.unknown[key] = _unknown(key, names, known)
        self._config.match_to = reference

    def _names(self, values: Mapping[str, Any]) -> dict[str, object]:
        names: dict[str, object] = {}
        for group in GROUP_NAMES:
            names[group] = self._config.get(group, {}).get("name")
        reference = values.get("match_to", self._config.get("match_to", "kan"))
        if isinstance(reference, DictConfig):
            reference = reference.get("name")
        names["match_to"] = reference
        if not isinstance(reference, str) or reference not in GROUPS["model"].builders:
            hint = nearest(reference, GROUPS["model"].builders)
            raise ConfigError(f"there is no model match_to={reference}; {hint}")
        return names

    def config(self) -> RunConfig:
        try:
            OmegaConf.resolve(self._config)
        except OmegaConfBaseException as error:
            raise ConfigError(_first_line(error)) from error
        return typed(_container(self._config), GROUPS)


class _Tree:
    """Hydra's view of ``configs/``; builders without a YAML are there as well."""

    def __init__(self) -> None:
        self._loader = GlobalHydra.instance().config_loader()
        self._parser = OverridesParser.create(config_loader=self._loader)
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def options(self, group: str) -> list[str]:
        return list(self._loader.get_group_options(group))

    def parse(self, text: str) -> Override:
        try:
            return self._parser.parse_overrides([text])[0]
        except HydraException as error:
            raise ConfigError(
                f"cannot read {text!r}: {_first_line(error)}; an override looks like "
                "training.epochs=2 or model.hidden=[64,64]"
            ) from error

    def job(self, overrides: Sequence[str]) -> _Job:
        values = {o.key_or_group: o.value() for o in map(self.parse, overrides)}
        chosen = {key: values.pop(key) for key in GROUP_NAMES if key in values}
        for group, name in chosen.items():
            if name in GROUPS[group].builders:
                continue  # without Hydra, which reads the whole tree to tell
            if name not in self.options(group):
                hint = nearest(name, self.options(group))
                raise ConfigError(f"there is no {group}={name}; {hint}")
        composed = self._compose([f"{k}={v}" for k, v in chosen.items()])
        return _Job(with_settings(composed, values), values)

    def _compose(self, choices: list[str]) -> DictConfig:
        key = tuple(choices)
        if key not in self._composed:
            try:
                self._composed[key] = compose("config", overrides=choices)
            except (HydraException, OmegaConfBaseException) as error:
                raise ConfigError(_first_line(error)) from error
        return self._composed[key]


@contextmanager
def _hydra_tree() -> Iterator[_Tree]:
    store = ConfigStore.instance()
    for group in GROUPS.values():
        for name in group.builders:
            if (config_dir() / group.name / f"{name}.yaml").is_file():
                continue
            node = {"name": name, **_plain_defaults(group, name)}
            store.store(group=group.name, name=name, node=node, provider="kancl")
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir()), version_base="1.3", job_name="kancl"):
        yield _Tree()


def _plain_defaults(group: Group, name: str) -> dict[str, Any]:
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in group.defaults(name).items()
    }


def _check_form(override: Override, sweep: bool) -> None:
    key = override.key_or_group
    if override.is_delete() or override.package is not None:
        raise ConfigError(f"{override.input_line} is refused: keys cannot be moved")
    if any(part.startswith("_") for part in key.split(".")):
        raise ConfigError(
            f"{key} is refused: a configuration cannot name Python objects; "
            "use the name of a builder, such as model=kan"
        )
    group, _, inner = key.partition(".")
    if inner == "name":
        raise ConfigError(f"{key} cannot be set; nearest: {group}={override.value()}")
    if override.is_sweep_override():
        if not override.is_discrete_sweep():
            raise ConfigError(
                f"{override.input_line}: name the values, as a,b or range"
            )
        if not sweep:
            raise ConfigError(f"{override.input_line} asks for several runs; add -m")


def _check_launcher(override: Override) -> None:
    key = override.key_or_group
    if key != "hydra/launcher" and not key.startswith("hydra.launcher."):
        raise ConfigError(
            f"{key} is not a key; of Hydra's own keys, runs take hydra/launcher and "
            "hydra.launcher.*"
        )
    if "_target_" in str(override.input_line):
        raise ConfigError(f"{key} is refused; nearest: hydra/launcher")


def _values(override: Override) -> list[str]:
    if override.is_sweep_override():
        key = override.key_or_group
        return [f"{key}={value}" for value in override.sweep_string_iterator()]
    return [f"{override.key_or_group}={override.get_value_element_as_str()}"]


def _unknown(key: str, names: Mapping[str, object], known: set[str]) -> str:
    group, _, option = key.partition(".")
    if group in GROUPS and option:
        owners = [
            name
            for name in GROUPS[group].builders
            if option in GROUPS[group].options(name)
        ]
        if owners:
            return f"{key} is not a key of {group}={names[group]}, but of " + ", ".join(
                f"{group}={name}" for name in owners
            )
        mine = [name for name in known if name.startswith(f"{group}.")]
        return f"{key} is not a key of {group}={names[group]}; {nearest(key, mine)}"
    return f"{key} is not a key; {nearest(key, known)}"


def _container(config: DictConfig) -> dict[str, Any]:
    content = OmegaConf.to_container(config)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
