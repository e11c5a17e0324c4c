"""The four groups of a configuration, each a literal dict of its room."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from kancl.benchmarks import SCENARIOS
from kancl.config import Group, presets
from kancl.models import MODELS
from kancl.runner.optimizers import OPTIMIZERS
from kancl.strategies import GROUP as STRATEGY


def _group(
    name: str, builders: Mapping[str, Callable[..., Any]], *supplied: str
) -> Group:
    return Group(name, builders, supplied, presets=partial(presets, name))


GROUPS = {
    "scenario": _group("scenario", SCENARIOS, "seed", "device", "data_dir"),
    "model": _group("model", MODELS, "input_range"),
    "strategy": STRATEGY,
    "optimizer": _group("optimizer", OPTIMIZERS),
}
"""By the key that chooses; the names after the builders are what the runner supplies."""
