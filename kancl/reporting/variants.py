"""Which runs belong together, on what benchmark, and how their settings were chosen."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kancl.config.files import flat, read_mapping
from kancl.config.schema import NOT_HASHED
from kancl.config.values import short
from kancl.metrics.score_matrix import ACCURACY, RMSE, Score
from kancl.metrics.statistics import Difference, paired_difference
from kancl.reading import in_one_line
from kancl.reporting.curves import Curves, mean_curves
from kancl.reporting.pairing import role
from kancl.runs.reader import STATUSES, Run


@dataclass(frozen=True)
class Variant:
    """The runs of one model and strategy with the same settings, by seed."""

    model: str
    strategy: str
    distinction: str
    """The settings that tell it from others of its model and strategy."""
    runs: tuple[Run, ...]
    repeated: tuple[Run, ...] = ()
    """Further completed runs of a seed that is there already."""

    @property
    def name(self) -> tuple[str, str]:
        return self.model, self.strategy

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
        return (self.completed or self.runs)[0]

    @property
    def score(self) -> Score:
        return (
            RMSE if any("average_rmse" in r.recomputed for r in self.runs) else ACCURACY
        )

    @cached_property
    def settings(self) -> dict[str, Any]:
        return settings(self.example)

    def by_seed(self, metric: str) -> dict[int, float]:
        values = ((run.seed, run.metric(metric)) for run in self.completed)
        return {seed: value for seed, value in values if value is not None}

    def minus(self, other: "Variant", metric: str) -> Difference | None:
        """The difference paired over seeds; None where none is shared or defined."""
        return paired_difference(self.by_seed(metric), other.by_seed(metric))

    def numbers(self, key: str) -> list[float]:
        """What the completed runs recorded under a key of their summaries."""
        values = (run.number(key) for run in self.completed)
        return [value for value in values if value is not None]

    @property
    def lost(self) -> str:
        """``1 diverged, 2 failed``, empty if every run completed."""
        ends = Counter(run.status for run in self.runs if not run.completed)
        return ", ".join(f"{ends[s]} {s}" for s in STATUSES if s in ends)

    @cached_property
    def curves(self) -> Curves | None:
        """The mean forgetting curves, None if none were measured alike."""
        label, runs = self.label, [run.metrics for run in self.completed]
        with suppress(ValueError):
            return mean_curves(
                [Curves.from_measurements(r, label) for r in runs], label
            )
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

    @cached_property
    def trials(self) -> "Benchmark":
        """Settings run with fewer seeds than others of their model and strategy."""
        most: Counter[tuple[str, str]] = Counter()
        for v in self.variants:
            most[v.name] = max(most[v.name], len(v.completed))
        fewer = (v for v in self.variants if len(v.completed) < most[v.name])
        return replace(self, variants=tuple(fewer))

    @cached_property
    def main(self) -> "Benchmark":
        """All settings but the trials."""
        labels = {variant.label for variant in self.trials.variants}
        others = (v for v in self.variants if v.label not in labels)
        return replace(self, variants=tuple(others))

    @property
    def slug(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") or "benchmark"

    @property
    def runs(self) -> list[Run]:
        return [run for variant in self.variants for run in variant.runs]

    @property
    def score(self) -> Score:
        return self.variants[0].score


def settings(run: Run) -> dict[str, Any]:
    """Everything that decides what a run is, but scenario and seed."""
    return {
        key: value
        for key, value in _identity(run).items()
        if not key.startswith("scenario.") and key not in (*NOT_HASHED, "seed")
    }


def _scenario(run: Run) -> dict[str, Any]:
    pairs = ((key.partition("."), value) for key, value in _identity(run).items())
    return {key: value for (group, _, key), value in pairs if group == "scenario"}


def _identity(run: Run) -> dict[str, Any]:
    """A run's keys, with what files of one's own hold, code and data."""
    keys = flat(run.config)
    for name, digest in run.own.items():
        if name in keys:
            keys[name] = f"{Path(str(keys[name])).name} {digest}"
        else:
            keys[f"file {Path(name).stem}"] = digest
    return keys


def unlike(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    """Keys whose values are not the same in all mappings."""
    given = list(mappings)
    keys = dict.fromkeys(key for mapping in given for key in mapping)
    return [k for k in keys if len({_text(m.get(k)) for m in given}) > 1]


def telling(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    """Keys that all mappings have, with values that are not the same."""
    given = list(mappings)
    return [key for key in unlike(given) if all(key in mapping for mapping in given)]


def in_words(settings: Mapping[str, Any], keys: Iterable[str]) -> str:
    """``lr=0.01, epochs=2``: settings as a name's end, those that are not set left out."""
    told = {key: settings.get(key) for key in keys}
    pairs = (f"{short(k)}={shown(v)}" for k, v in told.items() if v is not None)
    return ", ".join(pairs)


def shown(value: Any) -> str:
    """A setting's value as it is typed."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(shown, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def benchmarks(runs: Sequence[Run]) -> list[Benchmark]:
    groups = _grouped((r for r in runs if r.config), _scenario)
    scenarios = [_scenario(group[0]) for group in groups]
    result = []
    for options, group in zip(scenarios, groups):
        title = _title(options)
        keys = unlike(other for other in scenarios if _title(other) == title)
        extra = in_words(options, keys)
        title += f" ({extra})" if extra else ""
        result.append(Benchmark(title, options, _variants(group)))
    return sorted(result, key=lambda benchmark: benchmark.title)


def _variants(runs: Sequence[Run]) -> tuple[Variant, ...]:
    groups = _grouped(runs, settings)
    variants: dict[tuple[str, str, str], Variant] = {}
    for group in groups:
        name, own = _name(group[0]), settings(group[0])
        same = [settings(g[0]) for g in groups if _name(g[0]) == name]
        # A key that some lack is one that their version of kancl did not know yet.
        words = in_words(own, telling(same))
        if (*name, words) in variants:
            words = f"{words} settings of another version {len(variants)}".strip()
        key = (*name, words)
        variants[key] = Variant(*key, *_one_per_seed(group))

    def rank(v: Variant) -> tuple[Any, ...]:
        """KANs first, MLPs last; naive before whatever is to do better."""
        return role(v.model), v.model, v.strategy != "naive", v.strategy, v.distinction

    return tuple(sorted(variants.values(), key=rank))


def _grouped(runs: Iterable[Run], key: Callable[[Run], Any]) -> list[list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_text(key(run)), []).append(run)
    return list(groups.values())


def _one_per_seed(runs: Sequence[Run]) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """The runs, completed ones once per seed; and the further ones of a seed."""
    ordered = sorted(runs, key=lambda run: (run.seed, run.folder))
    first = {run.seed: run for run in reversed(ordered) if run.completed}
    kept = (r for r in ordered if not r.completed or r is first[r.seed])
    again = (r for r in ordered if r.completed and r is not first[r.seed])
    return tuple(kept), tuple(again)


def _name(run: Run) -> tuple[str, str]:
    return run.name_of("model"), run.name_of("strategy")


def _title(scenario: Mapping[str, Any]) -> str:
    words = str(scenario["name"]).split("_")
    name = " ".join(w.upper() if w == "mnist" else w.capitalize() for w in words)
    incremental = scenario.get("incremental")
    return f"{name}, {incremental}-incremental" if incremental else name


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


CELL = ("scenario", "incremental", "model", "strategy")


@dataclass(frozen=True)
class Tuning:
    """What was chosen for one scenario, model and strategy, and on what."""

    cell: tuple[str | None, ...] = ()  # ("split_mnist", "class", "kan", "ewc")
    n_trials: int = 0
    seeds: Sequence[int] = ()
    chosen: Mapping[str, str] = field(default_factory=dict)  # as they are shown
    at_edge: Sequence[str] = ()
    """Keys whose best value lay at the edge of what was tried."""
    problem: str = ""  # why the file cannot be read: then it is about no run

    def is_of(self, benchmark: Benchmark, variant: Variant) -> bool:
        options, settings = benchmark.options, variant.settings
        scenario = options["name"], options.get("incremental")
        chosen = (shown(settings.get(key)) == v for key, v in self.chosen.items())
        return self.cell == (*scenario, variant.model, variant.strategy) and all(chosen)


def find_tunings(paths: Sequence[Path | str]) -> list[Tuning]:
    """Those of every file in a folder ``tuned`` in or below the paths, by file; of a file
    that ``kancl tune`` did not write, the reason.
    """
    tunings = []
    for file in sorted({f for path in paths for f in Path(path).rglob("tuned/*.yaml")}):
        try:
            tunings += [_tuning(record) for record in read_mapping(file)["tuning"]]
        except Exception as why:  # a stranger's file can raise any
            said = in_one_line(f"{type(why).__name__}: {why}")[:300]
            problem = f"{file} was not written by kancl tune: {said}"
            tunings.append(Tuning(problem=problem))
    return tunings


def _tuning(record: Mapping[str, Any]) -> Tuning:
    """Raises: KeyError, TypeError or ValueError for another kind of record."""
    cell = tuple(record[key] for key in CELL)
    if not all(part is None or isinstance(part, str) for part in cell):
        raise ValueError(f"{cell} are no names")
    chosen = {key: _as_shown(text) for key, text in record["chosen"].items()}
    at_edge = [key for key in chosen if key in record["at_edge"]]
    if len(at_edge) != len(record["at_edge"]):
        raise ValueError(f"at_edge={record['at_edge']} are no keys that were chosen")
    seeds = [int(seed) for seed in record["seeds"]]
    return Tuning(cell, int(record["trials"]), seeds, chosen, at_edge)


def _as_shown(text: str) -> str:
    with suppress(ValueError):
        return shown(float(text)) if any(c in text for c in ".e") else text
    return text
