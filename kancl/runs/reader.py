"""Read run folders back: every run that is there, whatever became of it.

Metrics are recomputed from the raw series; where the run's own account differs, that is
said.
"""

import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kancl.config import ConfigError, nearest
from kancl.config.files import flat, read_mapping
from kancl.config.schema import GROUPS
from kancl.config.values import shown
from kancl.metrics.continual import CONTINUAL_METRICS
from kancl.metrics.score_matrix import METRICS, RMSE_METRICS
from kancl.reading import in_one_line, opened, printable, read_json, read_rows
from kancl.runs import measurements as series
from kancl.runs import names
from kancl.runs.files import files_of_runs, folders_called, listed_runs, unpack
from kancl.runs.measurements import Measurement

MOST_EXPERIENCES, MOST_ITERATIONS = 1000, 2**53  # more than any run has
STATUSES = (*names.ENDINGS, "unfinished", "unreadable")
"""``unfinished`` has no summary: still running, or killed."""


@dataclass(frozen=True)
class Run:
    """One run folder; its mappings are as the run wrote them, empty if unreadable."""

    folder: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    status: str = "unreadable"  # one of STATUSES
    metrics: Sequence[Measurement] = ()  # the raw series, rows of a pandas.DataFrame
    matrix: Tensor | None = None  # recomputed from them, (N + 1, N), if completed
    recomputed: Mapping[str, Any] = field(default_factory=dict)
    """Metrics of that matrix and of the curves; None where undefined, reasons under
    ``"undefined"``."""
    problems: tuple[str, ...] = ()  # contradictions, or the error that ended the run

    @property
    def completed(self) -> bool:
        return self.status == "completed"

    @property
    def name(self) -> str:  # these parts of its path name no machine and no person
        return "/".join(self.folder.parts[-3:])

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    @property
    def own(self) -> dict[str, str]:
        """Digests of code and data of one's own, by file and by key."""
        found = self.environment.get(names.OWN)
        pairs = found.items() if isinstance(found, Mapping) else ()
        return {str(name): str(digest)[:8] for name, digest in pairs}

    def name_of(self, group: str) -> str:
        return str(self.config[group]["name"])

    def number(self, key: str) -> float | None:
        """A finite number of the summary, None if the run did not record it."""
        return finite(self.summary.get(key))

    def metric(self, key: str) -> float | None:
        """A recomputed metric, None if it is undefined for the run."""
        return finite(self.recomputed.get(key))


def find_runs(paths: Sequence[Path | str]) -> list[Run]:
    """Every run in or below the paths, by path, and those that a comparison's folder
    lists; not the trials of ``kancl tune``.

    Raises: ConfigError if a path does not exist, or holds no run.
    """
    folders: set[Path] = set()
    for path in map(Path, paths):
        if not path.exists():
            raise ConfigError(f"there is no {path}; kancl run writes runs below logs")
        if (path / names.RUNS).is_file():
            folders |= _compared(path)
            continue
        each = names.CONFIG, names.SUMMARY
        files = [file for name in each for file in files_of_runs(path, name)]
        others = {names.TRIALS, *names.NO_RUNS}
        ours = [f for f in files if others.isdisjoint(f.relative_to(path).parts)]
        here = {file.parent.resolve() for file in ours}
        if not here:
            holds = "a run folder holds config.yaml, metrics.csv and summary.json"
            raise ConfigError(f"no run folder in {path}: {holds}")
        folders |= here
    return [read_run(folder) for folder in sorted(folders)]


def asked_for(words: Sequence[str]) -> tuple[list[Path], dict[str, list[str]]]:
    """Paths (default: ``logs``) and conditions ``key=value,value`` among words typed; the
    name of a comparison or a run stands for its folder.
    """
    paths: list[Path] = []
    conditions = {}
    for word in words:
        key, is_condition, values = word.partition("=")
        if is_condition and not Path(word).exists():
            conditions[key] = values.split(",")
        else:
            paths += folders_called(word)
    return paths or [Path(names.LOGS)], conditions


def select_runs(
    runs: Sequence[Run], conditions: Mapping[str, Sequence[str]]
) -> list[Run]:
    """The runs whose keys have one of the values each; those that cannot be read have
    none.

    Raises: ConfigError for a key that no run has, or where no run is left.
    """
    for key, values in conditions.items():
        each = [flat(run.config) for run in runs]
        known = {name.removesuffix(".name"): name for found in each for name in found}
        if (name := known.get(key)) is None:
            raise ConfigError(f"{key}= is no key of these runs; {nearest(key, known)}")
        left = [r for r, v in zip(runs, each) if name in v and _is_one(v[name], values)]
        if not left:
            there = {shown(found[name]) for found in each if name in found}
            raise ConfigError(
                f"{key}={','.join(values)} leaves no run; {nearest(values[0], there)}"
            )
        runs = left
    return list(runs)


def _is_one(value: object, typed: Sequence[str]) -> bool:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        with suppress(ValueError):
            return value in map(float, typed)
    return shown(value) in typed


def _compared(folder: Path) -> set[Path]:
    """The run folders of a comparison: those of its list that are still there."""
    root = folder.resolve().parents[1]
    listed = listed_runs(folder / names.RUNS, root)
    found = {root / run for run in listed if (root / run / names.CONFIG).is_file()}
    if not found:
        raise ConfigError(
            f"none of the {len(listed)} runs of {folder} is there any more"
        )
    return found


def read_run(folder: Path) -> Run:
    """Read one run folder; what is wrong with it becomes part of the run."""
    try:
        config = _config(folder / names.CONFIG)
        files = folder / names.ENVIRONMENT, folder / names.SUMMARY
        environment, summary = (read_json(f) if f.exists() else {} for f in files)
        status = str(summary.get("status", "unfinished"))
        status = status if status in STATUSES else "unreadable"
        run = Run(folder, config, environment, summary, status)
        if status != "completed":
            reason = (str(summary["error"]),) if "error" in summary else ()
            return replace(run, problems=reason)
        rows = read_measurements(folder)
        matrix, score = _recomputed(rows, summary), series.score_of(rows)
        recomputed = series.all_metrics(matrix, rows, score)
        run = replace(run, metrics=rows, matrix=matrix, recomputed=recomputed)
        return replace(run, problems=tuple(_contradictions(run, matrix, score.name)))
    except Exception as error:  # a forged or torn file can raise any
        said = in_one_line(f"{type(error).__name__}: {error}")[:300]
        return Run(folder, problems=(said.replace(f"{folder}/", ""),))


def read_measurements(folder: Path) -> list[Measurement]:
    """The rows of ``metrics.csv``.

    Raises: OSError or ValueError for anything else, or for numbers that no run has.
    """
    rows = read_rows(folder / names.METRICS)
    if (header := next(rows, [])) != [*names.METRICS_COLUMNS]:
        expected = ",".join(names.METRICS_COLUMNS)
        raise ValueError(f"{names.METRICS} has no columns {expected}, but {header}")
    known: dict[str, str] = {}  # one string for all rows of a name
    return [
        Measurement(
            _count(iteration, MOST_ITERATIONS),
            _experience(experience),
            known.get(name) or known.setdefault(name, printable(name)),
            float(value or "nan"),
        )
        for iteration, experience, name, value in rows
    ]


def read_matrix(folder: Path, score: str = "accuracy") -> Tensor:
    """The matrix that a run wrote, ``(N + 1, N)``. Raises: as ``read_table``."""
    return read_table(folder / names.matrix_file(score))[1][:, 1:]


def read_table(path: Path) -> tuple[list[str], Tensor]:
    """Column names and numbers of a CSV file, ``(rows, columns)``, float64.

    Raises: OSError or ValueError, naming the file, for anything else.
    """
    rows = read_rows(path)
    header = next(rows, [])
    try:
        values = array("d")
        for row in rows:
            values.extend(float(cell or "nan") for cell in row)
        table = torch.tensor(values, dtype=torch.float64)
        return header, table.reshape(-1, len(header))
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path.name} is no table of numbers: {error}") from error


def read_snapshots(folder: Path) -> list[dict[str, Tensor]]:
    """The states of the network between experiences. No code in the file is run.

    Raises: OSError or ValueError for anything else.
    """
    with opened(folder / names.SNAPSHOTS) as file:
        states = unpack(file).get("states")
    if not isinstance(states, list) or not all(isinstance(s, dict) for s in states):
        raise ValueError(f"{names.SNAPSHOTS} holds no states of a network")
    return states


def finite(value: object) -> float | None:
    """A finite number as it is, None for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value) if abs(value) <= sys.float_info.max else None
    return None


def _count(text: str, most: int) -> int:
    number = int(text)
    if not 0 <= number <= most:
        raise ValueError(f"metrics.csv has the number {text[:40]}, which no run has")
    return number


def _experience(text: str) -> int | None:
    """``experience_1`` is 0, as was ``0`` in files of earlier versions; empty: none."""
    if text.startswith(names.EXPERIENCE):
        return _count(text.removeprefix(names.EXPERIENCE), MOST_EXPERIENCES) - 1
    return _count(text, MOST_EXPERIENCES) if text else None


def _recomputed(rows: Sequence[Measurement], summary: Mapping[str, Any]) -> Tensor:
    name = f"test_{series.score_of(rows).name}"
    points = series.series_of(rows, name)
    if (n := len(points)) == 0:
        raise ValueError(f"metrics.csv has no {name}: nothing was evaluated")
    if () in points:
        raise ValueError(
            f"metrics.csv has no {name} of experience {points.index(()) + 1}"
        )
    n = max(n, int(finite(summary.get("n_experiences")) or 1))
    if n > MOST_EXPERIENCES:
        raise ValueError(f"summary.json has {n} experiences, which no run has")
    return series.matrix_of(rows, name, n)


def _contradictions(run: Run, matrix: Tensor, score: str) -> Iterator[str]:
    """Say where the run's own account is not that of its raw series."""
    file = names.matrix_file(score)
    try:
        written = read_matrix(run.folder, score)
        if written.shape != matrix.shape or not torch.allclose(
            written, matrix, rtol=0, atol=1e-9, equal_nan=True
        ):
            yield f"{file} differs from the series in metrics.csv"
    except FileNotFoundError:
        yield f"{file} is missing"
    for key in (*METRICS, *RMSE_METRICS, *CONTINUAL_METRICS):
        ours, theirs = run.metric(key), run.number(key)
        if key not in run.summary or ours is theirs is None:
            continue
        if ours is None or theirs is None or abs(ours - theirs) > 1e-9:
            yield f"{key} in summary.json is {run.summary[key]}, its series say {ours}"


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path.name}")
    config = read_mapping(path)
    for group in GROUPS:
        choice = config.get(group)
        if not isinstance(choice, dict) or not isinstance(choice.get("name"), str):
            raise ValueError(f"config.yaml has no {group}.name")
    if not isinstance(config.get("seed"), int):
        raise ValueError("config.yaml has no seed")
    return config
