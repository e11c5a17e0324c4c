"""Run folders read back: every run that is there, whatever became of it.

Only what the folders hold is used. Metrics are recomputed from the raw series in
``metrics.csv``; where they differ from what the run itself wrote down, that is said.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kancl.config.files import read_mapping
from kancl.config.schema import GROUPS
from kancl.metrics.accuracy_matrix import METRICS, matrix_from_series, summarise
from kancl.metrics.continual import CONTINUAL_METRICS
from kancl.plugins.measuring.recorder import Measurement
from kancl.reporting.curves import Curves, continual_metrics, training_ends

TRIALS = "tuned"
"""Folder whose runs chose settings; they are no results."""

MOST_EXPERIENCES, MOST_ITERATIONS = 10_000, 2**53
"""More than any run has: what says so is no run, and its matrix would fill the memory."""

STATUSES = ("completed", "diverged", "failed", "unfinished", "unreadable")


@dataclass(frozen=True)
class Run:
    """One run folder.

    Args:
        config: as resolved, nested plain values; empty if unreadable.
        environment: versions, commit, device.
        summary: as the run wrote it.
        status: one of ``STATUSES``: ``unfinished`` has no summary (still running, or
            killed), ``unreadable`` says why in ``problems``.
        measurements: the raw series.
        matrix: recomputed from them, ``(N + 1, N)``; None if the run did not complete.
        metrics: of that matrix and of the curves; None where undefined, reasons under
            ``"undefined"``.
        problems: what does not fit together.
    """

    folder: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    status: str = "unreadable"
    measurements: Sequence[Measurement] = ()
    matrix: Tensor | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def completed(self) -> bool:
        return self.status == "completed"

    @property
    def name(self) -> str:
        """The last three parts of its path: whose machine it was is nobody's business."""
        return "/".join(self.folder.parts[-3:])

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    def name_of(self, group: str) -> str:
        """Of the builder of a group, say ``kan`` of ``model``."""
        return str(self.config[group]["name"])

    def number(self, key: str) -> float | None:
        """A finite number of the summary, None if the run did not record it."""
        return finite(self.summary.get(key))

    def metric(self, key: str) -> float | None:
        """A recomputed metric, None if it is undefined for the run."""
        return finite(self.metrics.get(key))

    def curves(self, label: str = "") -> Curves | None:
        """Its forgetting curves, None if none were measured."""
        try:
            return Curves.from_measurements(self.measurements, label)
        except ValueError:
            return None


def find_runs(paths: Sequence[Path | str]) -> list[Run]:
    """Every run in or below the paths, by path; not the trials of ``kancl tune``.

    Raises: ValueError if a path does not exist, or holds no run.
    """
    folders: set[Path] = set()
    for path in map(Path, paths):
        if not path.exists():
            raise ValueError(f"there is no {path}; kancl run writes runs below logs")
        found = {file.parent for file in path.rglob("config.yaml")}
        found |= {file.parent for file in path.rglob("summary.json")}
        found = {f for f in found if TRIALS not in f.relative_to(path).parts}
        if not found:
            raise ValueError(
                f"no run folder in {path}: a run folder holds config.yaml, metrics.csv "
                "and summary.json"
            )
        folders |= {folder.resolve() for folder in found}
    return [read_run(folder) for folder in sorted(folders)]


def read_run(folder: Path) -> Run:
    """Read one run folder; what is wrong with it becomes part of the run."""
    try:
        config = _config(folder / "config.yaml")
        environment = _json(folder / "env.json")
        summary = _json(folder / "summary.json")
        status = str(summary.get("status", "unfinished"))
        known: dict[str, Any] = {"config": config, "environment": environment}
        known |= {"summary": summary}
        if status != "completed":
            status = status if status in STATUSES else "unreadable"
            reasons = [str(summary["error"])] if "error" in summary else []
            return Run(folder, status=status, problems=tuple(reasons), **known)
        measurements = read_measurements(folder)
        matrix = _recomputed(measurements, summary)
        metrics = all_metrics(matrix, measurements)
        problems = _disagreements(folder, matrix, metrics, summary)
    except Exception as error:  # whatever a forged or torn file makes the reader do
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        reason = reason.replace(f"{folder}/", "")
        return Run(folder, problems=(reason,))
    return Run(
        folder,
        status=status,
        measurements=measurements,
        matrix=matrix,
        metrics=metrics,
        problems=tuple(problems),
        **known,
    )


def all_metrics(matrix: Tensor, measurements: Sequence[Measurement]) -> dict[str, Any]:
    """Of the accuracy matrix and of the curves between its rows."""
    at_borders, between = summarise(matrix), continual_metrics(measurements)
    undefined = {**at_borders["undefined"], **between["undefined"]}
    return {**at_borders, **between, "undefined": undefined}


def read_measurements(folder: Path) -> list[Measurement]:
    """The rows of ``metrics.csv``.

    Raises: ValueError for what is none, or for numbers that no run has.
    """
    with (folder / "metrics.csv").open(newline="") as file:
        return [
            Measurement(
                _count(row["iteration"], MOST_ITERATIONS),
                (
                    _count(row["experience"], MOST_EXPERIENCES)
                    if row["experience"]
                    else None
                ),
                row["name"],
                float(row["value"] or "nan"),
            )
            for row in csv.DictReader(file)
        ]


def _count(text: str, most: int) -> int:
    number = int(text)
    if not 0 <= number <= most:
        raise ValueError(f"metrics.csv has the number {text[:40]}, which no run has")
    return number


def finite(value: object) -> float | None:
    """The number, None if it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def _recomputed(
    measurements: Sequence[Measurement], summary: Mapping[str, Any]
) -> Tensor:
    series: dict[int, list[tuple[int, float]]] = {}
    for m in measurements:
        if m.name == "test_accuracy" and m.experience is not None:
            series.setdefault(m.experience, []).append((m.iteration, m.value))
    if any(m.name == "test_rmse" for m in measurements):
        raise ValueError(
            "a regression has no accuracies to report: see its summary.json"
        )
    if not series:
        raise ValueError("metrics.csv has no test_accuracy: nothing was evaluated")
    n = max(max(series) + 1, int(finite(summary.get("n_experiences")) or 1))
    if n > MOST_EXPERIENCES:
        raise ValueError(f"summary.json has {n} experiences, which no run has")
    borders, jointly = training_ends(measurements)
    return matrix_from_series(series, borders, n, jointly)


def _disagreements(
    folder: Path,
    matrix: Tensor,
    metrics: Mapping[str, Any],
    summary: Mapping[str, Any],
) -> list[str]:
    """Where the run's own account is not what its raw series say."""
    found = []
    written = _matrix(folder / "accuracy_matrix.csv")
    if written is None:
        found.append("accuracy_matrix.csv is missing")
    elif written.shape != matrix.shape or not torch.allclose(
        written, matrix, rtol=0, atol=1e-9, equal_nan=True
    ):
        found.append("accuracy_matrix.csv differs from the series in metrics.csv")
    for key in (*METRICS, *CONTINUAL_METRICS):
        if key not in summary:
            continue
        ours, theirs = finite(metrics[key]), finite(summary[key])
        if ours is None or theirs is None:
            same = ours is theirs
        else:
            same = abs(ours - theirs) <= 1e-9
        if not same:
            found.append(
                f"{key} in summary.json is {summary[key]}, its series say {ours}"
            )
    return found


def _matrix(path: Path) -> Tensor | None:
    if not path.is_file():
        return None
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    values = [[float(cell or "nan") for cell in row[1:]] for row in rows]
    return torch.tensor(values, dtype=torch.float64)


def _config(path: Path) -> dict[str, Any]:
    path.stat()  # one that is missing is said to be
    config = read_mapping(path)
    for group in GROUPS:
        choice = config.get(group)
        if not isinstance(choice, dict) or not isinstance(choice.get("name"), str):
            raise ValueError(f"config.yaml has no {group}.name")
    if not isinstance(config.get("seed"), int):
        raise ValueError("config.yaml has no seed")
    return config


def _json(path: Path) -> dict[str, Any]:
    return _mapping(json.loads(path.read_text())) if path.is_file() else {}


def _mapping(content: object) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ValueError(f"expected keys with values, got {type(content).__name__}")
    return {str(key): value for key, value in content.items()}
