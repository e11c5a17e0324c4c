"""Which runs belong together: benchmarks, and on each the variants that met there.

A benchmark is a scenario with all of its options; a variant is a model with a strategy
and every other setting, over its seeds.
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
from kancl.metrics.score_matrix import ACCURACY, RMSE, Score
from kancl.reporting.curves import Curves, mean_curves
from kancl.reporting.pairing import role
from kancl.runs.reader import STATUSES, Run


@dataclass(frozen=True)
class Variant:
    """The runs of one model and strategy with the same settings.

    Args:
        distinction: the settings that tell it from others of its model and strategy.
        runs: whatever became of them, by seed.
        repeated: further completed runs of a seed that is there already.
    """

    model: str
    strategy: str
    distinction: str
    runs: tuple[Run, ...]
    repeated: tuple[Run, ...] = ()

    @property
    def label(self) -> str:
        name = f"{self.model}-{self.strategy}"
        return f"{name} ({self.distinction})" if self.distinction else name

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

    @property
    def score(self) -> Score:
        """What its runs are judged by."""
        errors = any("average_rmse" in run.metrics for run in self.runs)
        return RMSE if errors else ACCURACY

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

    def counts(self) -> dict[str, int]:
        """Runs by status, those that occur."""
        ends = [run.status for run in self.runs]
        return {status: ends.count(status) for status in STATUSES if status in ends}

    @property
    def lost(self) -> str:
        """``1 diverged, 2 failed``, empty if every run completed."""
        lost = [f"{n} {s}" for s, n in self.counts().items() if s != "completed"]
        return ", ".join(lost)

    @cached_property
    def curves(self) -> Curves | None:
        """The mean forgetting curves, None if none were measured alike."""
        runs = [run.measurements for run in self.completed]
        try:
            curves = [Curves.from_measurements(run, self.label) for run in runs]
            return mean_curves(curves, self.label)
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
    variants: tuple[Variant, ...]

    @property
    def slug(self) -> str:
        """Its title as a file's name."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") or "benchmark"

    @property
    def runs(self) -> list[Run]:
        return [run for variant in self.variants for run in variant.runs]

    @property
    def score(self) -> Score:
        return self.variants[0].score


def settings(run: Run) -> dict[str, Any]:
    """Every key that decides what a run is, but scenario and seed."""
    return {
        key: value
        for key, value in flattened(run.config).items()
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
    """Sort the readable runs by benchmark and variant."""
    groups = _grouped(
        (run for run in runs if run.config), lambda r: r.config["scenario"]
    )
    titles = [_title(group[0].config["scenario"]) for group in groups]
    result = []
    for title, group in zip(titles, groups):
        same = [g[0].config["scenario"] for t, g in zip(titles, groups) if t == title]
        options = dict(group[0].config["scenario"])
        extra = ", ".join(f"{key}={shown(options.get(key))}" for key in unlike(same))
        full = f"{title} ({extra})" if extra else title
        result.append(Benchmark(full, options, _variants(group)))
    return sorted(result, key=lambda benchmark: benchmark.title)


def _variants(runs: Sequence[Run]) -> tuple[Variant, ...]:
    groups = _grouped(runs, settings)
    variants: list[Variant] = []
    for group in groups:
        name, own = _name(group[0]), settings(group[0])
        same = [settings(g[0]) for g in groups if _name(g[0]) == name]
        # A key that some lack is one that their version of kancl did not know yet.
        telling = [key for key in unlike(same) if all(key in m for m in same)]
        words = ", ".join(f"{_short(key)}={shown(own[key])}" for key in telling)
        if any(
            (*name, words) == (v.model, v.strategy, v.distinction) for v in variants
        ):
            words = f"{words} settings of another version {len(variants)}".strip()
        variants.append(Variant(*name, words, *_one_per_seed(group)))
    return tuple(sorted(variants, key=_rank))


def _grouped(runs: Iterable[Run], key: Any) -> list[list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_text(key(run)), []).append(run)
    return list(groups.values())


def _short(key: str) -> str:
    """``lr`` for ``optimizer.lr``, ``optimizer`` for ``optimizer.name``."""
    return key.removesuffix(".name").split(".")[-1]


def _one_per_seed(runs: Sequence[Run]) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """The runs, completed ones once per seed; and the further ones of a seed."""
    first: list[Run] = []
    repeated: list[Run] = []
    seeds = set()
    for run in sorted(runs, key=lambda run: (run.seed, run.folder)):
        again = run.completed and run.seed in seeds
        (repeated if again else first).append(run)
        if run.completed:
            seeds.add(run.seed)
    return tuple(first), tuple(repeated)


def _name(run: Run) -> tuple[str, str]:
    return run.name_of("model"), run.name_of("strategy")


def _rank(v: Variant) -> tuple[Any, ...]:
    """KANs first, MLPs last; naive before whatever is to do better."""
    return role(v.model), v.model, v.strategy != "naive", v.strategy, v.distinction


def _title(scenario: Mapping[str, Any]) -> str:
    words = str(scenario["name"]).split("_")
    name = " ".join(w.upper() if w == "mnist" else w.capitalize() for w in words)
    incremental = scenario.get("incremental")
    return f"{name}, {incremental}-incremental" if incremental else name


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
