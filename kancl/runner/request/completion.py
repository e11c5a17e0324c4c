"""What a shell offers where Tab is pressed: commands, options, keys, names and values.

It reads what earlier commands have written down of signatures, and never imports torch.
"""

import contextlib
import io
import re
import shlex
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import resources
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from kancl.config import Group, nearest
from kancl.config.schema import CHOICES, FIXED
from kancl.config.typed import group_of
from kancl.config.values import ConfigError
from kancl.runner.request.experiments import KEY, experiment_names
from kancl.runner.request.known import LISTS, written_groups

SHELLS = ("bash", "zsh", "fish")
COMPOSED = ("run", "compare", "tune")
"""Commands that take keys and values."""
Command = Callable[[list[str]], int]


def script(shell: str) -> str:
    """What a shell evaluates to complete ``kancl``.

    Raises: ConfigError for another shell.
    """
    if shell not in SHELLS:
        raise ConfigError(
            f"there is no completion for {shell}; {nearest(shell, SHELLS)}"
        )
    return (resources.files("kancl.runner.request") / f"completion.{shell}").read_text()


def candidates(
    shell: str, line: str, commands: Mapping[str, Command], benches: Iterable[str]
) -> list[str]:
    """All words with which the last one of a line, up to the cursor, may go on."""
    try:
        _, *before = shlex.split(line)
    except ValueError:  # a quote is open
        return []
    last = "" if line[-1:].isspace() else before.pop()
    words: dict[str, Callable[[], Iterable[str]]] = {
        **dict.fromkeys(COMPOSED, lambda: _settings(before[1:], last)),
        **{"list": _listed, "reproduce": _protocols},
        **{"bench": lambda: benches, "completion": lambda: SHELLS},
    }
    found: Iterable[str] = commands
    if before and last.startswith("-"):
        found = _options(commands.get(before[0]))
    elif before:
        found = words.get(before[0], list)()
    fitting = [word for word in dict.fromkeys(found) if word.startswith(last)]
    if shell == "bash":  # completes what is behind the last = alone
        return [word[last.rfind("=") + 1 :] for word in fitting]
    return fitting


def _protocols() -> list[str]:
    files = (resources.files("kancl") / "protocols").iterdir()
    return sorted(f.name[:-5] for f in files if f.name.endswith(".yaml"))


def _listed() -> Iterator[str]:
    groups = written_groups()
    yield from LISTS
    yield from (name for group in groups.values() for name in group.names)
    yield from experiment_names()
    yield from (key.rstrip("=") for key in _keys(groups, {}))


def _options(command: Command | None) -> list[str]:
    """The options that the help of a command names."""
    text = io.StringIO()
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(text):
        if command is not None:
            command(["--help", "--quiet"])  # without the keys
    return re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text.getvalue())


def _settings(before: Sequence[str], last: str) -> Iterator[str]:
    """Keys up to their next dot, or the values of a key behind its ``=``."""
    groups = written_groups()
    chosen = {key: value for key, _, value in (w.partition("=") for w in before)}
    key, is_set, value = last.partition("=")
    if is_set:
        several = value.rpartition(",")[0]
        start = f"{key}={several},".replace("=,", "=")
        yield from (f"{start}{each}" for each in _values(groups, chosen, key, value))
        return
    for word in _keys(groups, chosen):
        head, dot, rest = word.removeprefix(last).partition(".")
        yield last + head + dot if word.startswith(last) and rest else word


def _keys(groups: Mapping[str, Group], chosen: Mapping[str, str]) -> Iterator[str]:
    yield from (
        f"{key}=" for key in (*CHOICES, KEY.rstrip("="), "hydra/launcher", *FIXED)
    )
    yield from (f"{key}=" for key, _ in _own(groups, chosen))


def _own(
    groups: Mapping[str, Group], chosen: Mapping[str, str]
) -> Iterator[tuple[str, Any]]:
    """Keys of the builders that were chosen, of all of a group without a choice, and
    their types.
    """
    for key in CHOICES if groups else ():
        group = group_of(groups, key)
        for name in chosen.get(key, ",".join(group.names)).split(","):
            with contextlib.suppress(ConfigError):
                for option in group.options(name).items():
                    yield f"{key}.{option[0]}", option[1].annotation


def _values(
    groups: Mapping[str, Group], chosen: Mapping[str, str], key: str, value: str
) -> Iterator[str]:
    if key in CHOICES and groups:
        group = group_of(groups, key)
        word = value.rpartition(",")[2]
        others = word.rpartition("+")[0] if group.sums else ""
        start = f"{others}+" if others else ""
        yield from (
            start + name for name in group.names if name not in others.split("+")
        )
    elif key == KEY.rstrip("="):
        yield from experiment_names()
    elif key == "hydra/launcher":
        from kancl.runner.installed import EXTRAS  # late: it asks for what is installed

        yield from EXTRAS
    elif key in FIXED:
        yield from _choices(FIXED[key].annotation)
    else:
        for name, annotation in _own(groups, chosen):
            if name == key:
                yield from _choices(annotation)


def _choices(annotation: Any) -> list[str]:
    """The words that a type allows, if they can be told."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is bool:
        return ["true", "false"]
    if annotation is type(None):
        return ["null"]
    if origin is Literal:
        return [*map(str, arguments)]
    if origin is Annotated:
        return _choices(arguments[0])
    if origin in (Union, types.UnionType):
        return [word for part in arguments for word in _choices(part)]
    return []
