"""The groups that a command line chooses from, without importing them where that can wait.

Signatures and docstrings are the one place where keys stand. What they say is kept in a
file of the user's cache folder, for the very sources that it was read from: to refuse a
typing error takes no torch then.
"""

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

from kancl.config import Group
from kancl.config.files import digest_of
from kancl.config.index import as_json, from_json
from kancl.reading import try_json
from kancl.runs.files import write_whole

LISTS = ("scenarios", "models", "strategies", "optimizers", "experiments", "settings")
"""What ``kancl list`` calls the groups, experiments, and keys of every run."""
PACKAGE = Path(__file__).resolve().parents[2]


def known_groups() -> Mapping[str, Group]:
    """The groups themselves once torch is there (a script may have added to them); until
    then what the file says of them, written anew where it is not of these sources.
    """
    if "torch" in sys.modules:
        return _imported()
    return _indexed()


def index_file() -> Path:
    """Where signatures are kept, one file for every installed kancl."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "kancl" / f"keys{str(PACKAGE).replace(os.sep, '-')}.json"


def written_groups() -> Mapping[str, Group]:
    """What was written down last, of these sources or earlier ones; none if nothing was."""
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        return from_json(try_json(index_file()) or {})
    return {}


def _imported() -> Mapping[str, Group]:
    from kancl.runner.registry import GROUPS

    return GROUPS


@cache
def _indexed() -> Mapping[str, Group]:
    path = index_file()
    sources = digest_of(PACKAGE.rglob("*.py"), PACKAGE)
    sources += f" avalanche {version('avalanche-lib')} python {sys.version}"
    index = try_json(path) or {}
    if index.get("sources") == sources:
        with suppress(ValueError, TypeError, KeyError, AttributeError):
            return from_json(index)
    groups = _imported()
    with suppress(OSError):  # a folder that cannot be written: read anew each time
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"sources": sources, **as_json(groups)}
        write_whole(path, json.dumps(content).encode())
    return groups
