"""Read a YAML file that may be a stranger's: plain values, or one clear sentence."""

from __future__ import annotations

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
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
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
