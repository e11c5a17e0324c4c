"""Which runs belong together: benchmarks, and on each the sides that met there.

A benchmark is a scenario with all of its options; a side is a model with a strategy and
every other setting, over its seeds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from kancl.config.schema import NOT_HASHED
from kancl.reporting.curves import Curves, mean_curves
from kancl.runs.reader import STATUSES, Run


@dataclass(frozen=True)
class Side:
    """The runs of one model and strategy with the same settings.

    Args:
        variant: the settings that tell it from others of its model and strategy.
        runs: whatever became of them, by seed.
        repeated: further completed runs of a seed that is there already.
    """

    model: str
    strategy: str
    variant: str
    runs: tuple[Run, ...]
    repeated: tuple[Run, ...] = ()

    @property
    def label(self) -> str:
        name = f"{self.model}-{self.strategy}"
        return f"{name} ({self.variant})" if self.variant else name

    @property
    def completed(self) -> list[Run]:
        return [run for run in self.runs if run.completed]

    @property
    def seeds(self) -> list[int]:
        return [run.seed for run in self.completed]

    @property
    def example(self) -> Run:
        """A run to read the settings from."""
        return (self.completed or list(self.runs))[0]

    @cached_property
    def settings(self) -> dict[str, Any]:
        return settings(self.example)

    def by_seed(self, metric: str) -> dict[int, float]:
        """A metric of the completed runs that have it."""
        values = {run.seed: run.metric(metric) for run in self.completed}
        return {seed: value for seed, value in values.items() if value is not None}

    def numbers(self, key: str) -> list[float]:
        """What the completed runs recorded under a key of their summaries."""
        values = [run.number(key) for run in self.completed]
        return [value for value in values if value is not None]

    def count(self, status: str) -> int:
        return sum(run.status == status for run in self.runs)

    def counts(self) -> dict[str, int]:
        """Runs by status, those that occur."""
        return {s: self.count(s) for s in STATUSES if self.count(s)}

    @cached_property
    def curves(self) -> Curves | None:
        """The mean forgetting curves, None if none were measured alike."""
        runs = [run.measurements for run in self.completed]
        try:
            measured = [Curves.from_measurements(m, self.label) for m in runs]
            return mean_curves(measured, self.label)
        except ValueError:
            return None

    @cached_property
    def matrices(self) -> Tensor | None:
        """``(runs, N + 1, N)`` of the completed runs."""
        matrices = [run.matrix for run in self.completed if run.matrix is not None]
        if not matrices or len({m.shape for m in matrices}) > 1:
            return None
        return torch.stack(matrices)


@dataclass(frozen=True)
class Benchmark:
    """A scenario with its options, and who met there."""

    title: str
    options: Mapping[str, Any]
    sides: tuple[Side, ...]

    @property
    def slug(self) -> str:
        """Its title as a file's name."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") or "benchmark"

    @property
    def runs(self) -> list[Run]:
        return [run for side in self.sides for run in side.runs]


def settings(run: Run) -> dict[str, Any]:
    """Every key that decides what a run is, but scenario and seed."""
    flat = flattened(run.config)
    return {
        key: value
        for key, value in flat.items()
        if not key.startswith("scenario.") and key not in (*NOT_HASHED, "seed")
    }


def flattened(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys: ``{"optimizer.lr": 0.001, ...}``."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            flat[key] = value
    return flat


def unlike(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    """Keys whose values are not the same in all mappings."""
    given = list(mappings)
    keys = {key: None for mapping in given for key in mapping}
    return [k for k in keys if len({_text(m.get(k)) for m in given}) > 1]


def shown(value: Any) -> str:
    """A setting's value as it is typed."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(shown, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def benchmarks(runs: Sequence[Run]) -> list[Benchmark]:
    """Sort the readable runs by benchmark and side."""
    by_scenario: dict[str, list[Run]] = {}
    for run in runs:
        if run.config:
            by_scenario.setdefault(_text(run.config["scenario"]), []).append(run)
    groups = [list(group) for group in by_scenario.values()]
    titles = [_title(group[0].config["scenario"]) for group in groups]
    found = []
    for title, group in zip(titles, groups):
        same = [g for t, g in zip(titles, groups) if t == title]
        options = dict(group[0].config["scenario"])
        told_apart = unlike(g[0].config["scenario"] for g in same)
        extra = ", ".join(f"{key}={shown(options.get(key))}" for key in told_apart)
        full = f"{title} ({extra})" if extra else title
        found.append(Benchmark(full, options, _sides(group)))
    return sorted(found, key=lambda benchmark: benchmark.title)


def _sides(runs: Sequence[Run]) -> tuple[Side, ...]:
    by_settings: dict[str, list[Run]] = {}
    for run in runs:
        by_settings.setdefault(_text(settings(run)), []).append(run)
    groups = list(by_settings.values())
    sides: list[Side] = []
    for group in groups:
        name = _name(group[0])
        same = [settings(g[0]) for g in groups if _name(g[0]) == name]
        own = settings(group[0])
        variant = ", ".join(f"{_short(k)}={shown(own[k])}" for k in _telling(same))
        if any((*name, variant) == (s.model, s.strategy, s.variant) for s in sides):
            variant = f"{variant} settings of another version {len(sides)}".strip()
        sides.append(Side(*name, variant, *_one_per_seed(group)))
    return tuple(sorted(sides, key=lambda s: (_rank(s), s.variant)))


def _telling(mappings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys that tell settings apart; those that all have, since a key that some lack is
    one that their version of kancl did not know yet.
    """
    return [key for key in unlike(mappings) if all(key in m for m in mappings)]


def _short(key: str) -> str:
    """``lr`` for ``optimizer.lr``, ``optimizer`` for ``optimizer.name``."""
    return key.removesuffix(".name").split(".")[-1]


def _one_per_seed(runs: Sequence[Run]) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """The runs, completed ones once per seed; and the further ones of a seed."""
    kept: list[Run] = []
    repeated: list[Run] = []
    seeds = set()
    for run in sorted(runs, key=lambda run: (run.seed, run.folder)):
        if run.completed and run.seed in seeds:
            repeated.append(run)
            continue
        if run.completed:
            seeds.add(run.seed)
        kept.append(run)
    return tuple(kept), tuple(repeated)


def _name(run: Run) -> tuple[str, str]:
    return run.name_of("model"), run.name_of("strategy")


def _rank(side: Side) -> tuple[Any, ...]:
    """KANs first, MLPs last; naive before whatever is to do better."""
    kan, mlp = side.model.startswith("kan"), side.model.startswith("mlp")
    return not kan, mlp, side.model, side.strategy != "naive", side.strategy


def _title(scenario: Mapping[str, Any]) -> str:
    words = str(scenario["name"]).split("_")
    name = " ".join(w.upper() if w == "mnist" else w.capitalize() for w in words)
    incremental = scenario.get("incremental")
    return f"{name}, {incremental}-incremental" if incremental else name


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
