"""Which runs belong together: benchmarks, and on each the variants that met there."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from kancl.config.schema import NOT_HASHED
from kancl.metrics.score import ACCURACY, RMSE, Score
from kancl.reporting.curves import Curves, mean_curves
from kancl.reporting.pairing import role
from kancl.runs.reader import STATUSES, Run


@dataclass(frozen=True)
class Variant:
    """The runs of one model and strategy with the same settings, over its seeds.

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

    @cached_property
    def completed(self) -> list[Run]:
        return [run for run in self.runs if run.completed]

    @property
    def seeds(self) -> list[int]:
        return [run.seed for run in self.completed]

    @property
    def example(self) -> Run:
        """A run to read the settings from."""
        return (self.completed or self.runs)[0]

    @property
    def score(self) -> Score:
        errors = any("average_rmse" in run.metrics for run in self.runs)
        return RMSE if errors else ACCURACY

    @cached_property
    def settings(self) -> dict[str, Any]:
        return settings(self.example)

    def by_seed(self, metric: str) -> dict[int, float]:
        """A metric of the completed runs that have it."""
        values = ((run.seed, run.metric(metric)) for run in self.completed)
        return {seed: value for seed, value in values if value is not None}

    def numbers(self, key: str) -> list[float]:
        """What the completed runs recorded under a key of their summaries."""
        values = (run.number(key) for run in self.completed)
        return [value for value in values if value is not None]

    def counts(self) -> dict[str, int]:
        """Runs by status, those that occur."""
        ends = Counter(run.status for run in self.runs)
        return {status: ends[status] for status in STATUSES if status in ends}

    @property
    def lost(self) -> str:
        """``1 diverged, 2 failed``, empty if every run completed."""
        counts = self.counts().items()
        return ", ".join(
            f"{n} {status}" for status, n in counts if status != "completed"
        )

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
        """``(runs, N + 1, N)`` of the completed runs, None if they are not alike."""
        matrices = [run.matrix for run in self.completed if run.matrix is not None]
        return torch.stack(matrices) if len({m.shape for m in matrices}) == 1 else None


@dataclass(frozen=True)
class Benchmark:
    """A scenario with all of its options, and who met there."""

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
        inner = value if isinstance(value, Mapping) else None
        flat |= (
            {key: value} if inner is None else {f"{key}.{k}": inner[k] for k in inner}
        )
    return flat


def unlike(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    """Keys whose values are not the same in all mappings."""
    given = list(mappings)
    keys = dict.fromkeys(key for mapping in given for key in mapping)
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
    groups = _grouped((r for r in runs if r.config), lambda r: r.config["scenario"])
    named = [(_title(group[0].config["scenario"]), group) for group in groups]
    result = []
    for title, group in named:
        same = [g[0].config["scenario"] for name, g in named if name == title]
        options = dict(group[0].config["scenario"])
        extra = ", ".join(f"{key}={shown(options.get(key))}" for key in unlike(same))
        full = f"{title} ({extra})" if extra else title
        result.append(Benchmark(full, options, _variants(group)))
    return sorted(result, key=lambda benchmark: benchmark.title)


def _variants(runs: Sequence[Run]) -> tuple[Variant, ...]:
    groups = _grouped(runs, settings)
    variants: dict[tuple[str, str, str], Variant] = {}
    for group in groups:
        name, own = _name(group[0]), settings(group[0])
        same = [settings(g[0]) for g in groups if _name(g[0]) == name]
        # A key that some lack is one that their version of kancl did not know yet.
        telling = [key for key in unlike(same) if all(key in m for m in same)]
        # ``lr`` for ``optimizer.lr``, ``optimizer`` for ``optimizer.name``
        short = {key: key.removesuffix(".name").split(".")[-1] for key in telling}
        words = ", ".join(f"{short[key]}={shown(own[key])}" for key in telling)
        if (*name, words) in variants:
            words = f"{words} settings of another version {len(variants)}".strip()
        variants[*name, words] = Variant(*name, words, *_one_per_seed(group))
    return tuple(sorted(variants.values(), key=_rank))


def _grouped(runs: Iterable[Run], key: Callable[[Run], Any]) -> list[list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_text(key(run)), []).append(run)
    return list(groups.values())


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
