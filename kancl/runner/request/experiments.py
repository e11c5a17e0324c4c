"""Experiments: comparisons written down, one file of settings each.

A file holds a question, what all variants share, and the variants; so its fairness can
be read off it. Each is a list of overrides, as typed after ``kancl run -m``, or the keys
and values of a configuration, with sweeps as values. ``kancl run experiment=NAME`` makes
its runs; whatever else is typed applies to all variants and comes last.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kancl.config import ConfigError, config_dir, nearest
from kancl.config.files import flat, read_mapping
from kancl.config.schema import CHOICES
from kancl.config.values import shown

KEY = "experiment="
KEYS = ("question", "source", "control", "shared", "variants", "tuning")


class Experiment(NamedTuple):
    """What is compared, and why.

    Args:
        control: what rules out the known confound.
        shared: overrides of every variant.
        variants: overrides of each; a sweep in one makes several.
    """

    question: str
    control: str
    shared: tuple[str, ...]
    variants: tuple[tuple[str, ...], ...]


def experiment_names() -> list[str]:
    """Those that come with kancl."""
    return sorted(path.stem for path in (config_dir() / "experiment").glob("*.yaml"))


def read_experiment(name: str | Path) -> Experiment:
    """An experiment by its name, or by the path of its file.

    Raises: ConfigError for what is none, with the nearest name or key.
    """
    path, names = Path(name), experiment_names()
    if path.suffix != ".yaml":
        if str(name) not in names:
            raise ConfigError(f"there is no experiment={name}; {nearest(name, names)}")
        path = config_dir() / "experiment" / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(f"there is no {path}: experiment= takes a name or a file")
    content = read_mapping(path)
    for key in content:
        if key not in KEYS:
            raise ConfigError(f"{path}: {key} is not a key; {nearest(key, KEYS)}")
    variants = content.get("variants")
    if not variants or not isinstance(variants, list):
        raise ConfigError(f"{path} is no experiment: it has no variants")
    return Experiment(
        " ".join(str(content.get("question", "")).split()),
        " ".join(str(content.get("control", "")).split()),
        _overrides(content.get("shared", []), f"{path}: shared"),
        tuple(_overrides(variant, f"{path}: variants") for variant in variants),
    )


def expanded(overrides: Sequence[str]) -> tuple[list[list[str]], list[str], bool]:
    """The overrides of every variant, those typed, and whether it is an experiment."""
    asked = [text for text in overrides if text.startswith(KEY)]
    others = [text for text in overrides if not text.startswith(KEY)]
    if not asked:
        return [others], others, False
    if len(asked) > 1:
        raise ConfigError(f"{' and '.join(asked)}: one experiment at a time")
    _, _, shared, variants = read_experiment(asked[0].removeprefix(KEY))
    return [[*shared, *variant, *others] for variant in variants], others, True


def _overrides(given: Any, where: str) -> tuple[str, ...]:
    """The words that are typed: ``{model: {name: kan}}`` is ``model=kan`` and so on."""
    if isinstance(given, dict):
        names = {f"{key}.name": key for key in CHOICES}
        given = [f"{names.get(k, k)}={shown(v)}" for k, v in flat(given).items()]
    if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
        hint = "such as model: kan, or a list of overrides, such as [model=kan]"
        raise ConfigError(f"{where} takes keys, {hint}")
    return tuple(given)
