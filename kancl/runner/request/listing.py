"""What can be chosen and set, and what it means: ``kancl list``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kancl.config import ConfigError, Group, Option, nearest
from kancl.config.docstrings import about
from kancl.config.schema import FIXED, RunConfig
from kancl.config.typed import group_of, owners_of
from kancl.config.values import shown
from kancl.runner.request.compose import launchers
from kancl.runner.request.experiments import experiment_names, read_experiment
from kancl.runner.request.registry import GROUPS

LISTS = {
    "scenario": "scenarios",
    "model": "models",
    "strategy": "strategies",
    "optimizer": "optimizers",
    "experiment": "experiments",
    "setting": "settings",
}
"""What each list is of, and its own name."""


def show_list(words: Sequence[str], console: Console) -> None:
    """Print whole lists, or all that is said of one name or key.

    Args:
        words: lists (``models``), names (``ewc``) and keys (``optimizer.lr``); if there
            are none, all lists.

    Raises: ConfigError with the nearest word for one that is none of these.
    """
    kinds = {many: one for one, many in LISTS.items()}
    for word in words or LISTS:
        kind = kinds.get(word, word)
        if kind in LISTS:
            _show_all(kind, console)
        elif not (_show_name(word, console) or _show_key(word, console)):
            known = [*kinds, *FIXED, *experiment_names()]
            known += [name for group in GROUPS.values() for name in group.names]
            raise ConfigError(f"there is nothing called {word}; {nearest(word, known)}")


def _show_all(kind: str, console: Console) -> None:
    if kind == "experiment":
        for name in experiment_names():
            _show(console, f"experiment={name}", read_experiment(name).question)
    elif kind == "setting":
        rows = _rows("", FIXED)
        rows[f"match_to={RunConfig.match_to.name}"] = "|".join(GROUPS["model"].names)
        rows["hydra/launcher=basic"] = "|".join(launchers())
        _show(console, "settings", "Keys of every run.", rows)
    else:
        for name in GROUPS[kind].names:
            _show_builder(GROUPS[kind], name, GROUPS[kind].summary(name), console)


def _show_name(word: str, console: Console) -> bool:
    for group in GROUPS.values():
        try:
            texts = [about(part.builder) for part in group.parts(word)]
        except ConfigError:
            continue
        if word in group.presets and group.presets[word].help:
            texts.insert(0, group.presets[word].help)
        _show_builder(group, word, "\n\n".join(texts), console)
        return True
    if word in experiment_names():
        experiment = read_experiment(word)
        text = f"{experiment.question}\n\n{experiment.control}"
        _show(console, f"experiment={word}", text)
    return word in experiment_names()


def _show_key(key: str, console: Console) -> bool:
    """Say what a key means, for each builder that has it."""
    if key in FIXED:
        _show(console, "settings", "Keys of every run.", _rows("", {key: FIXED[key]}))
    choice, _, name = key.partition(".")
    owners = owners_of(key, GROUPS)
    for owner in owners:
        group = group_of(GROUPS, choice)
        rows = _rows(f"{choice}.", {name: group.options(owner)[name]})
        _show(console, f"{choice}={owner}", group.summary(owner), rows)
    return key in FIXED or bool(owners)


def _show_builder(group: Group, name: str, text: str, console: Console) -> None:
    """A name with its keys; a preset's, where they differ from its builder's."""
    rows = _rows(f"{group.name}.", group.options(name))
    if preset := group.presets.get(name):
        if preset.preset_of != name:
            text += f"\n\nA preset of {group.name}={preset.preset_of}, with:"
            base = _rows(f"{group.name}.", group.options(preset.preset_of))
            rows = {key: meaning for key, meaning in rows.items() if key not in base}
        for condition, settings in preset.settings.items():
            where = f"set with {group.name}={name}" + f" and {condition}" * bool(
                condition
            )
            rows |= {f"{key}={shown(v)}": f"({where})" for key, v in settings.items()}
    _show(console, f"{group.name}={name}", text, rows)


def _rows(prefix: str, options: Mapping[str, Option]) -> dict[str, str]:
    return {
        f"{prefix}{key}={shown(o.default)}": f"{o.help.rstrip('.')} ({o.kind})".strip()
        for key, o in options.items()
    }


def _show(
    console: Console, title: str, text: str, rows: Mapping[str, str] | None = None
) -> None:
    """A title and what it is; below, keys with defaults and what they mean."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_row(Text(title, "bold"), Text(text))
    for key, meaning in (rows or {}).items():
        table.add_row(Text(f"  {key}"), Text(meaning))
    console.print(table)
