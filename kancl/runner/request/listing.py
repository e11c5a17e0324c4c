"""What can be chosen and set, and what it means: ``kancl list``."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kancl.config import ConfigError, Option, config_dir, nearest
from kancl.config.docstrings import about
from kancl.config.files import read_mapping
from kancl.config.schema import FIXED, RunConfig
from kancl.config.values import shown
from kancl.runner import installed
from kancl.runner.request.experiments import experiment_names, read_experiment
from kancl.runner.request.known import LISTS, known_groups


class Entry(NamedTuple):
    """A name that a group such as ``model`` has, and what it is."""

    group: str
    name: str
    text: str  # in a sentence
    details: str  # in full
    keys: Mapping[str, str]  # what each means, by ``key=default``


def show_list(words: Sequence[str], console: Console) -> None:
    """Print lists (``models``), names (``ewc+replay``), keys (``optimizer.lr``), or all.

    Raises: ConfigError with the nearest word for one that is none of these.
    """
    entries = list(_entries([word for word in words if "+" in word]))
    lists = dict(zip(LISTS, [*known_groups(), "experiment", "setting"]))
    for word in words or LISTS:
        group = lists.get(word, word)
        found = [e for e in entries if e.group == group]
        found = found or [e._replace(text=e.details) for e in entries if e.name == word]
        if not found:
            for entry in entries:
                texts = entry.keys.items()
                keys = {k: text for k, text in texts if _is_called(k, word)}
                found += [entry._replace(keys=keys)] if keys else []
        if not found:
            known = [*LISTS, *FIXED, *(entry.name for entry in entries if entry.name)]
            known += [k.partition("=")[0] for entry in entries for k in entry.keys]
            raise ConfigError(
                f"there is nothing called {word}; {nearest(word, {*known})}"
            )
        for entry in found:
            _show(entry, console)


def show_keys(console: Console | None = None) -> None:
    """Print what can be chosen, and the keys that a run has that chooses nothing."""
    console = console or Console()
    default = read_mapping(config_dir() / "config.yaml")
    names = {kind: " ".join(group.names) for kind, group in known_groups().items()}
    names["experiment"] = " ".join(experiment_names())
    for kind, known in names.items():
        text = f"one of: {known}"
        _show(Entry(kind, str(default.get(kind, "")), text, "", {}), console)
    for entry in _entries([]):
        if default.get(entry.group, "") == entry.name:
            _show(entry, console)


def _show(entry: Entry, console: Console) -> None:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    name = Text(f"{entry.group}={entry.name}".rstrip("="), "bold")
    table.add_row(name, Text(entry.text))
    for key, meaning in entry.keys.items():
        table.add_row(Text(f"  {key}"), Text(meaning))
    console.print(table)


def _entries(sums: Sequence[str]) -> Iterator[Entry]:
    """All that can be listed; sums of strategies where they are asked for."""
    for kind, group in known_groups().items():
        for name in [*group.names, *(sums if kind == "strategy" else ())]:
            keys = _keys(f"{kind}.", group.options(name))
            said = [about(part.builder) for part in group.parts(name)]
            preset = group.presets.get(name)
            if preset and preset.preset_of != name:  # its keys where they differ
                base = _keys(f"{kind}.", group.options(preset.preset_of))
                keys = {key: text for key, text in keys.items() if key not in base}
                said = [preset.help, *said, f"A preset of {kind}={preset.preset_of}:"]
            for condition, settings in preset.settings.items() if preset else ():
                where = f"set with {name}" + f" and {condition}" * bool(condition)
                keys |= {f"{k}={shown(v)}": f"({where})" for k, v in settings.items()}
            yield Entry(kind, name, group.summary(name), "\n\n".join(said), keys)
    for name in experiment_names():
        experiment = read_experiment(name)
        details = f"{experiment.question}\n\n{experiment.control}"
        yield Entry("experiment", name, experiment.question, details, {})
    keys = _keys("", FIXED)
    models = " | ".join(known_groups()["model"].names)
    keys[f"match_to={RunConfig.match_to.name}"] = (
        f"the reference, which keeps its widths ({models})"
    )
    usable = " | ".join(filter(installed.is_installed, installed.registered()))
    text = "what makes the runs of a sweep, such as joblib: several at a time"
    keys["hydra/launcher=basic"] = f"{text} ({usable})"
    yield Entry("setting", "", "keys of every run", "", keys)


def _is_called(setting: str, word: str) -> bool:
    """Whether ``optimizer.lr=0.1`` sets ``optimizer.lr``, or ``lr`` for short."""
    key = setting.partition("=")[0]
    return word in (key, key.rpartition(".")[2])


def _keys(prefix: str, options: Mapping[str, Option]) -> dict[str, str]:
    return {
        f"{prefix}{key}={shown(o.default)}": f"{o.help.rstrip('.')} ({o.kind})".strip()
        for key, o in options.items()
    }
