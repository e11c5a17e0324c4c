"""Experiments: comparisons written down, one file of overrides each.

A file holds a question, what all sides share, and the sides, everything as it is typed
after ``kancl run -m``; so its fairness can be read off it. ``kancl run experiment=NAME``
makes its runs; whatever else is typed applies to all sides and comes last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from kancl.config import ConfigError, config_dir, nearest

KEY = "experiment="
KEYS = ("question", "source", "control", "shared", "sides", "tuning")


@dataclass(frozen=True)
class Experiment:
    """What is compared, and why.

    Args:
        question: what it is to settle.
        control: what rules out the known confound.
        shared: overrides of every side.
        sides: overrides of each; a sweep in one makes several.
        tuning: what ``kancl tune`` did to choose them, if it did.
    """

    name: str
    question: str
    control: str
    shared: tuple[str, ...]
    sides: tuple[tuple[str, ...], ...]
    tuning: tuple[dict[str, Any], ...] = ()


def experiment_names() -> list[str]:
    """Those that come with kancl."""
    return sorted(path.stem for path in (config_dir() / "experiment").glob("*.yaml"))


def read_experiment(name: str | Path) -> Experiment:
    """An experiment by its name, or by the path of its file.

    Raises: ConfigError for what is none, with the nearest name or key.
    """
    path = Path(name)
    if path.suffix != ".yaml":
        if str(name) not in experiment_names():
            known = nearest(name, experiment_names())
            raise ConfigError(f"there is no experiment={name}; {known}")
        path = config_dir() / "experiment" / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(f"there is no {path}: experiment= takes a name or a file")
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:  # whatever YAML stumbles over
        reason = str(error).strip().split("\n")[0]
        raise ConfigError(f"{path} is no YAML: {reason}") from error
    if not isinstance(content, dict) or not content.get("sides"):
        raise ConfigError(f"{path} is no experiment: it has no sides")
    for key in map(str, content):
        if key not in KEYS:
            raise ConfigError(f"{path}: {key} is not a key; {nearest(key, KEYS)}")
    return Experiment(
        path.stem,
        " ".join(str(content.get("question", "")).split()),
        " ".join(str(content.get("control", "")).split()),
        _words(content.get("shared", []), f"{path}: shared"),
        tuple(_words(side, f"{path}: sides") for side in content["sides"]),
        tuple(content.get("tuning", ())),
    )


def expanded(overrides: Sequence[str]) -> tuple[list[list[str]], list[str], bool]:
    """The overrides of every side, those typed, and whether an experiment was asked for.

    Raises: ConfigError for more than one, or one that does not exist.
    """
    asked = [text for text in overrides if text.startswith(KEY)]
    others = [text for text in overrides if not text.startswith(KEY)]
    if not asked:
        return [others], others, False
    if len(asked) > 1:
        raise ConfigError(f"{' and '.join(asked)}: one experiment at a time")
    experiment = read_experiment(asked[0].removeprefix(KEY))
    sides = [[*experiment.shared, *side, *others] for side in experiment.sides]
    return sides, others, True


def _words(given: Any, where: str) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
        raise ConfigError(f"{where} takes a list of overrides, such as [model=kan]")
    return tuple(given)
