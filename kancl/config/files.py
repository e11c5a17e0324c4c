"""Where the YAML tree lies, and how a file that may be a stranger's is read.

A preset is a builder by another name, with values of its own::

    preset_of: kan
    help: what it is, in one line
    hidden: [256]  # and more of the builder's keys
    with: {optimizer: {lr: 0.01}}  # keys elsewhere that go with it

Those in ``configs/<group>/`` are chosen by name, a user's own by the path of its file.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kancl.config.values import ConfigError

LARGEST, DEEPEST = 100_000, 20  # bytes, and keys inside keys; ten times a real one


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
    depth = 0
    for event in yaml.parse(text):
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(f"{path} refers to itself (a YAML alias): refused")
        if depth == 0 and isinstance(
            event, (yaml.ScalarEvent, yaml.SequenceStartEvent)
        ):
            raise ConfigError(f"{path} holds no keys")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ConfigError(f"{path} is nested too deeply: refused")


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
        why = "does not say preset_of: the builder whose keys it sets"
        raise ConfigError(f"{path} {why}")
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
