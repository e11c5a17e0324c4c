"""Presets: a builder by another name, with values of its own, as a YAML file.

::

    preset_of: kan
    help: what it is, in one line
    hidden: [256]  # and more of the builder's keys
    with: {optimizer: {lr: 0.01}}  # keys elsewhere that go with it

Those in ``configs/<group>/`` are chosen by name, a user's own by the path of its file.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kancl.config.files import config_dir, flat, read_mapping
from kancl.config.values import ConfigError


@dataclass(frozen=True)
class Preset:
    """Values of a builder's keys under a name.

    Args:
        preset_of: the builder, or a sum of them.
        options: values of its keys; the others keep their defaults.
        settings: values of keys elsewhere, unless the command line sets them: by the
            condition under which they hold, such as ``model=mlp``; "": always.
    """

    name: str
    preset_of: str
    help: str
    options: Mapping[str, Any]
    settings: Mapping[str, Mapping[str, Any]]

    def settings_for(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The settings whose condition holds for a run; later ones win."""
        found: dict[str, Any] = {}
        for condition, settings in self.settings.items():
            key, _, value = condition.partition("=")
            if not condition or str(values.get(key)) == value:
                found |= settings
        return found


def is_name(text: object) -> bool:
    """Whether a preset can be called so, and its folders after it."""
    return isinstance(text, str) and bool(re.fullmatch(r"[A-Za-z0-9_-]+", text))


def read_preset(path: Path) -> Preset:
    """Raises: ConfigError for a file that is none."""
    if not is_name(path.stem):
        raise ConfigError(f"{path}: a preset's name has letters, digits, _ and - only")
    content = read_mapping(path)
    preset_of, settings = content.pop("preset_of", None), content.pop("with", {})
    text = str(content.pop("help", ""))
    if not isinstance(preset_of, str):
        raise ConfigError(
            f"{path} does not say preset_of: the builder whose keys it sets"
        )
    always = dict(settings) if isinstance(settings, dict) else {}
    conditions = {key: always.pop(key) for key in [*always] if "=" in key}
    if not all(isinstance(value, dict) for value in (settings, *conditions.values())):
        raise ConfigError(f"{path}: with takes keys, such as optimizer.lr: 0.01")
    by_condition = {key: flat(v) for key, v in {"": always, **conditions}.items()}
    return Preset(path.stem, preset_of, text, flat(content), by_condition)


@cache
def presets(group: str) -> Mapping[str, Preset]:
    """The presets of a group that come with kancl, by name."""
    files = sorted((config_dir() / group).glob("*.yaml"))
    return {path.stem: read_preset(path) for path in files}
