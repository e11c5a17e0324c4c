"""Where the YAML tree lies, and what its files hold.

A preset is a builder by another name, with values of its own::

    preset_of: kan
    help: what it is, in one line
    hidden: [256]  # and more of the builder's keys
    with: {optimizer: {lr: 0.01}}  # keys elsewhere that go with it

Those in ``configs/<group>/`` are chosen by name, a user's own by the path of its file.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kancl.config.values import ConfigError, is_name
from kancl.reading import read_yaml

TYPED = ("data_dir", "log_dir", "name", "overwrite", "loggers")
"""Keys that say where a run reads, writes and reports, how it is called, and whether it
replaces another: they are typed; a file that sets them is refused."""


def config_dir() -> Path:
    """``configs/`` of a checkout, or the copy inside an installed package."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "config.yaml").is_file():
            return folder
    raise FileNotFoundError(f"the configuration tree of kancl is not beside {package}")


def digest_of(files: Iterable[Path], root: Path | None = None) -> str:
    """16 hex digits of source files and, below a root, of their paths."""
    digest = hashlib.sha256()
    for path in sorted(files):
        name = str(path.relative_to(root)).encode() + b"\0" if root else b""
        digest.update(name + path.read_bytes())
    return digest.hexdigest()[:16]


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
    """The keys and values of a YAML file, as ``kancl.reading.read_yaml`` reads them.

    Raises: ConfigError naming the file.
    """
    try:
        return read_yaml(path)
    except ValueError as error:
        raise ConfigError(str(error)) from error


@dataclass(frozen=True)
class Preset:
    """Values of a builder's keys under a name."""

    name: str
    preset_of: str  # the builder, or a sum of them
    help: str
    options: Mapping[str, Any]  # of its keys; the others keep their defaults
    settings: Mapping[str, Mapping[str, Any]]
    """Values of keys elsewhere, unless the command line sets them, by the condition under
    which they hold, such as ``model=mlp``; "": always."""

    def settings_for(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The settings whose condition holds for a run; later ones win."""
        found: dict[str, Any] = {}
        for condition, settings in self.settings.items():
            key, _, value = condition.partition("=")
            if not condition or str(values.get(key)) == value:
                found |= settings
        return found


def read_preset(path: Path) -> Preset:
    """Raises: ConfigError for a file that is none."""
    if not is_name(path.stem):
        raise ConfigError(f"{path}: a preset's name has letters, digits, _ and - only")
    content = read_mapping(path)
    preset_of, settings = content.pop("preset_of", None), content.pop("with", {})
    text = str(content.pop("help", ""))
    if not isinstance(preset_of, str):
        why = "does not say preset_of: the builder whose keys it sets"
        raise ConfigError(f"{path} {why}")
    always = dict(settings) if isinstance(settings, dict) else {}
    conditions = {key: always.pop(key) for key in [*always] if "=" in key}
    if not all(isinstance(value, dict) for value in (settings, *conditions.values())):
        raise ConfigError(f"{path}: with takes keys, such as optimizer.lr: 0.01")
    by_condition = {key: flat(v) for key, v in {"": always, **conditions}.items()}
    for key in set[str]().union(*by_condition.values()).intersection(TYPED):
        raise ConfigError(f"{path}: {key} is refused in a preset; type it")
    return Preset(path.stem, preset_of, text, flat(content), by_condition)


@cache
def presets(group: str) -> Mapping[str, Preset]:
    """The presets of a group that come with kancl, by name."""
    files = sorted((config_dir() / group).glob("*.yaml"))
    return {path.stem: read_preset(path) for path in files}
