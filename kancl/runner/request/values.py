"""From values of Python to overrides, benchmarks in memory among them."""

import hashlib
import re
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks import CLScenario

from kancl.benchmarks import SCENARIOS, from_avalanche
from kancl.config import ConfigError
from kancl.config.values import shown
from kancl.data.rows import as_tensors
from kancl.runner.registry import GROUPS

HELD: weakref.WeakValueDictionary[str, CLScenario] = weakref.WeakValueDictionary()
"""Benchmarks that were given as scenarios, by the name they got."""


def overrides_of(keys: Mapping[str, Any], sweep: bool = False) -> list[str]:
    """Return the overrides that say the same as values of Python.

    Args:
        sweep: a list of names, benchmarks or seeds asks for a run of each.
    Raises: ConfigError for a scenario that is neither a name nor a benchmark.
    """
    words = []
    for key, value in keys.items():
        is_several = isinstance(value, Iterable) and not isinstance(value, str)
        swept = sweep and is_several and key in (*GROUPS, "seed")
        each = list(value) if swept else [value]
        if key == "scenario":
            each = [v if isinstance(v, str) else _given(v) for v in each]
        words.append(f"{key}={','.join(map(_word, each))}")
    return words


def _given(benchmark: Any) -> str:
    """Make a benchmark a scenario by name, for as long as somebody holds it.

    Returns: the name, which ends in a digest of the data: other data are another run.
    Raises: ValueError for anything else.
    """
    if not isinstance(benchmark, CLScenario):
        raise ConfigError(
            f"scenario takes a name or a benchmark, not {type(benchmark).__name__}; make "
            "one with kancl.benchmarks.from_arrays or from_datasets"
        )
    given, benchmark = benchmark, from_avalanche(benchmark)
    given.described = benchmark  # may be a new one: it lives as long as the given one
    digest = hashlib.sha256(repr(benchmark.info).encode())
    with torch.random.fork_rng(devices=[]):  # a stock transform may draw
        for stream in benchmark.streams.values():
            for part in (part for e in stream for part in as_tensors(e.dataset)):
                digest.update(np.ascontiguousarray(part.cpu().numpy()).data)
    word = re.sub(r"\W+", "_", benchmark.info.name)
    name = f"{word}_{digest.hexdigest()[:8]}"
    HELD[name] = benchmark

    def build(**supplied: Any) -> Any:
        """A benchmark given in Python."""
        if name not in HELD:
            raise ValueError(f"the benchmark of scenario={name} is gone: hold on to it")
        return HELD[name]

    SCENARIOS[name] = build
    return name


def _word(value: Any) -> str:
    if isinstance(value, (list, tuple, range)):
        return f"[{','.join(map(_word, value))}]"
    text = shown(value)
    if not isinstance(value, (str, Path)) or re.fullmatch(r"[\w./+-]+", text):
        return text
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
