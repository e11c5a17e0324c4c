"""Where the YAML tree lies, and how a file that may be a stranger's is read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kancl.config.values import ConfigError

LARGEST = 100_000
"""Bytes of a configuration; a real one has a tenth of it at most."""
DEEPEST = 20
"""Keys inside keys; a real one has three."""


def config_dir() -> Path:
    """``configs/`` of a checkout, or the copy inside an installed package."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "config.yaml").is_file():
            return folder
    raise FileNotFoundError(f"the configuration tree of kancl is not beside {package}")


def flat(nested: Mapping[Any, Any]) -> dict[str, Any]:
    """``{"training": {"epochs": 2}}`` as ``{"training.epochs": 2}``."""
    found: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            found |= {f"{key}.{inner}": v for inner, v in flat(value).items()}
        else:
            found[str(key)] = value
    return found


def nested(flat_values: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of ``flat``."""
    found: dict[str, Any] = {}
    for key, value in flat_values.items():
        *sections, name = key.split(".")
        inner = found
        for section in sections:
            inner = inner.setdefault(section, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{key} is not a key: {section} is a value")
        inner[name] = value
    return found


def read_mapping(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file: numbers, strings, lists, nested keys.

    Nothing is constructed but these: a tag such as ``!!python/object`` is refused, and
    so are aliases, with which a few lines can swell to gigabytes, and interpolations,
    which could read this machine's environment.

    Raises: ConfigError naming the file.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise ConfigError(f"{path} is too large for a configuration: refused")
        text = path.read_text(encoding="utf-8")
        _look_through(text, path)
        content = OmegaConf.to_container(OmegaConf.create(text))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except ConfigError:
        raise
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        why = str(error).strip().split("\n")[0]
        raise ConfigError(f"{path} is no YAML: {why}") from error
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"{path} holds no keys")
    if "${" in text:
        raise ConfigError(f"{path} is not resolved (it holds ${{...}}): refused")
    return {str(key): value for key, value in content.items()}


def _look_through(text: str, path: Path) -> None:
    """Refuse, before anything is made of it, what would swell or take for ever."""
    depth, outermost = 0, True
    for event in yaml.parse(text):
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(f"{path} refers to itself (a YAML alias): refused")
        if isinstance(event, yaml.NodeEvent) and outermost:
            if not isinstance(event, yaml.MappingStartEvent):
                raise ConfigError(f"{path} holds no keys")
            outermost = False
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ConfigError(f"{path} is nested too deeply: refused")
