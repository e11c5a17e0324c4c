"""What a run is known by: its folder, and what its bytes depend on."""

import hashlib
import inspect
import os
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from secrets import token_hex
from typing import Any, get_args

import torch

import kancl
from kancl.config import ConfigError, RunConfig, fingerprint
from kancl.config.files import digest_of
from kancl.config.schema import CHOICES
from kancl.config.typed import changed, group_of
from kancl.config.values import Content, short, shown
from kancl.data.checks import free_memory
from kancl.data.images import SOURCES, unchecked_files
from kancl.reading import try_json
from kancl.runner.machine import resolve_device
from kancl.runner.registry import GROUPS
from kancl.runs import names

PACKAGE = Path(kancl.__file__).resolve().parent
MOST_WORD, MOST_TITLE = 24, 60
"""Letters of a setting, and of all, in the name of a run folder."""
_TOLD: dict[Any, Mapping[str, str]] = {}


def run_folder(config: RunConfig) -> Path:
    """``log_dir/<scenario>-<incremental>/<model>-<strategy>/<title>-<hash>``.

    The hash alone tells which run it is: a folder that ends with it is this run's, however
    it was called.
    """
    scenario, incremental = config.scenario, config.scenario.options.get("incremental")
    kind = scenario.name + (f"-{incremental}" if incremental else "")
    around = Path(config.log_dir) / kind / config.label
    end = f"-{fingerprint(config, own(config))}"
    called = _title(config) + end
    there = [name for name in _names_in(around) if name.endswith(end)]
    return around / (called if called in there or not there else there[0])


def check_name(config: RunConfig) -> None:
    """Raises: ConfigError if a run of other settings has the name, and the seed."""
    if config.name is None:
        return
    folder, title = run_folder(config), f"{_title(config)}-"
    for name in _names_in(folder.parent):
        if name.startswith(title) and name != folder.name:
            raise ConfigError(
                f"name={config.name} is taken by other settings, those of "
                f"{folder.parent / name}: choose another name, or remove that folder"
            )


def _title(config: RunConfig) -> str:
    """``seed3-lr=0.01-epochs=2``: the seed, and what differs from the defaults, or the name
    that the run was given.
    """
    if config.name is not None:
        return f"{config.name}-seed{config.seed}"
    words = [f"seed{config.seed}"]
    if config.optimizer.name != "adam":
        words.append(config.optimizer.name)
    found = changed(config, GROUPS)
    for key in sorted(found, key=_rank):
        words.append(names.clean(f"{short(key)}={shown(found[key])}", MOST_WORD))
    while len("-".join(words)) > MOST_TITLE:
        words = [*words[:-2], "etc"] if words[-1] == "etc" else [*words[:-1], "etc"]
    return "-".join(words)


def _rank(key: str) -> int:
    """Keys of the model first, those of the scenario last: comparisons share them."""
    order = ("model", "match", "strategy", "optimizer", "training")
    group = key.partition(".")[0]
    return order.index(group) if group in order else len(order)


def _names_in(folder: Path) -> list[str]:
    with suppress(OSError, ValueError):  # ValueError: a null in the name
        return sorted(os.listdir(folder))
    return []


def environment(device: torch.device) -> dict[str, Any]:
    """Describe what computes a run; no names of people or machines."""
    return {
        "kancl": kancl.__version__,
        **_commit(PACKAGE.parent),
        "python": platform.python_version(),
        **_computed_by(device),
        "device": device.type,
    }


def provenance(config: RunConfig) -> dict[str, Any]:
    """Names and values that two processes must share to compute the same bytes."""
    ingredients = own(config)
    return {
        "configuration": fingerprint(config, ingredients),
        "data_dir": config.data_dir,
        "training.eval_batch_size": config.training.eval_batch_size,
        "code of kancl": _code_of_kancl(),
        "code and data of one's own": ingredients,
        "python": ".".join(platform.python_version_tuple()[:2]),
        **_computed_by(resolve_device(config.device)),
    }


def _computed_by(device: torch.device) -> dict[str, Any]:
    """Name what the last bit of a number depends on, kancl's code aside."""
    is_gpu = device.type == "cuda"
    return {
        "torch": torch.__version__,
        "avalanche": version("avalanche-lib"),
        "numpy": version("numpy"),
        "platform": f"{platform.system()} {platform.machine()}",
        "device_name": torch.cuda.get_device_name(device) if is_gpu else "CPU",
        "threads": torch.get_num_threads(),
    }


def _commit(checkout: Path) -> dict[str, Any]:
    """Commit of a git checkout of kancl, and whether files differ from it."""
    words = "describe --always --dirty --exclude=* --abbrev=40".split()
    said = ""
    if (checkout / ".git").exists():  # no folder above it is asked
        with suppress(OSError, subprocess.CalledProcessError):
            git = ["git", "-C", str(checkout), *words]
            said = subprocess.check_output(git, stderr=subprocess.DEVNULL, text=True)
    if not said:
        return {"commit": None}
    commit, _, changed = said.strip().partition("-")
    return {"commit": commit, "changed": bool(changed)}


@cache
def _code_of_kancl() -> str:
    return digest_of(PACKAGE.rglob("*.py"), PACKAGE)


def own(config: RunConfig) -> dict[str, str]:
    """Digests of the code and data of one's own that a run depends on.

    By the name of each source file with something that a user has registered, or that
    such a file imports from others that are not installed; by the key of each data file
    (``kancl.config.DataFile``); and by the name of each file of a data set that nobody
    publishes a checksum of. Empty for what comes with kancl.

    Raises: ConfigError for a data file that cannot be read.
    """
    found: dict[str, str] = {}
    for key in CHOICES:
        choice, group = getattr(config, key), group_of(GROUPS, key)
        for part in group.parts(choice.builder):
            found |= own_code(part.builder)
        for name, option in group.options(choice.builder).items():
            if Content in map(type, get_args(option.annotation)):
                if path := choice.options.get(name):
                    found[f"{key}.{name}"] = _checksum(
                        f"{key}.{name}", Path(path).expanduser()
                    )
    dataset = config.scenario.options.get("dataset")
    if config.data_dir is not None and dataset in SOURCES:
        for path in unchecked_files(dataset, config.data_dir):
            found[path.name] = _checksum("data_dir", path)
    return found


def own_code(builder: Any) -> Mapping[str, str]:
    """Digests of the code behind a builder, by file; empty for what comes with kancl."""
    builder = getattr(builder, "func", builder)  # a partial's own
    if builder.__module__.partition(".")[0] == "kancl":
        return {}
    return _TOLD.get(builder) or _code_behind(builder)


def tell_code(builder: Any, digests: Mapping[str, str]) -> None:
    """Say what is behind a builder that came from another process, without its files."""
    _TOLD[getattr(builder, "func", builder)] = digests


def made_of(config: RunConfig) -> dict[str, Any]:
    """What ``env.json`` says of code and data of one's own; nothing without any."""
    ingredients = own(config)
    settings = fingerprint(config, dict.fromkeys(ingredients, ""))
    return {names.SETTINGS: settings, names.OWN: ingredients} if ingredients else {}


def changed_since(path: Path, config: RunConfig) -> str:
    """Say which code or data of one's own an earlier run of these settings had otherwise.

    Args:
        path: the run's own folder.
    """
    ours = made_of(config)
    others = path.parent.glob("*") if ours else []
    for other in sorted(others, key=lambda p: p.stat().st_mtime, reverse=True):
        theirs = try_json(other / names.ENVIRONMENT) or {}
        if other != path and theirs.get(names.SETTINGS) == ours[names.SETTINGS]:
            before = theirs.get(names.OWN)
            if isinstance(before, dict):
                both = {*before.items()} ^ {*ours[names.OWN].items()}
                changed = ", ".join(sorted({name for name, _ in both}))
                return f"{changed} changed since {other.name}: trained anew"
    return ""


@cache
def _code_behind(builder: Any) -> Mapping[str, str]:
    """Digests by file, of the code as it was when the builder was first asked for.

    A process keeps running the code that it has read, whatever happens to the files.
    Code that has no file (a notebook's) goes by its source; where that is not to be had
    either, by a digest that no other process will find.
    """
    own_module, files = builder.__module__, dict[str, set[Path]]()
    with suppress(OSError, TypeError):
        file = Path(inspect.getsourcefile(builder) or "")
        if file.is_file():
            files[file.name] = {file.resolve()}
    digests = {} if files else {builder.__name__: _source(builder)}
    waiting, seen = [own_module], set[str]()
    while waiting:
        name = waiting.pop()
        module = sys.modules.get(name)
        if name in seen or module is None:
            continue
        seen.add(name)
        file = Path(getattr(module, "__file__", None) or "").resolve()
        is_kin = name.partition(".")[0] == own_module.partition(".")[0]
        if PACKAGE in file.parents or not is_kin and _is_installed(file):
            continue
        if file.suffix == ".py":
            files.setdefault(file.name, set()).add(file)
        for value in [*vars(module).values()]:
            is_module = inspect.ismodule(value)
            waiting.append(value.__name__ if is_module else _module_of(value))
    return digests | {name: digest_of(paths) for name, paths in files.items()}


def _source(builder: Any) -> str:
    """A digest of a function's source, or a class's with that of its base classes."""
    kin = inspect.getmro(builder) if inspect.isclass(builder) else (builder,)
    try:
        beside = [b for b in kin if b.__module__ == builder.__module__]
        text = "".join(map(_text, beside))
    except (OSError, TypeError):
        text = token_hex()
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _text(thing: Any) -> str:
    """Raises: OSError where no source is known."""
    with suppress(OSError, TypeError):
        return inspect.getsource(thing)
    if not inspect.isclass(thing):
        raise OSError(f"nobody knows the source of {thing}")
    parts = []  # a notebook knows those of functions only
    for name, value in vars(thing).items():
        if inspect.isfunction(value):
            written = inspect.unwrap(value).__code__.co_filename != "<string>"
            if written:  # not one that a dataclass makes
                parts.append(inspect.getsource(value))
        elif name == "__annotations__" or not name.startswith(("__", "_abc")):
            parts.append(f"{name} = {value!r}")
    return "\n".join(parts)


def _module_of(value: Any) -> str:
    is_code = inspect.isclass(value) or inspect.isfunction(value)
    return str(value.__module__) if is_code else ""


def _is_installed(file: Path) -> bool:
    """Whether a module is built in, of Python's own library, or of a package."""
    libraries = map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib"))
    places = {Path(place).resolve() for place in libraries}
    return not file.is_file() or not places.isdisjoint(file.parents)


def _checksum(key: str, path: Path) -> str:
    """Raises: ConfigError if there is no such file."""
    try:
        status = path.stat()
        if not path.is_file():
            raise FileNotFoundError
        if status.st_size > free_memory():
            raise ConfigError(f"{key}: {path} is larger than the memory that is free")
        return _digest_of(path, status.st_size, status.st_mtime_ns, status.st_ino)
    except FileNotFoundError:
        raise ConfigError(f"{key}: there is no file {path}") from None
    except OSError as error:
        raise ConfigError(f"{key}: {path} cannot be read: {error.strerror}") from error


@cache
def _digest_of(path: Path, *status: int) -> str:
    """A digest of the content, read once as long as what ``stat`` says stays."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()[:16]
