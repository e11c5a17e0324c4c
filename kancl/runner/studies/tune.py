"""Choose settings on validation images, with as many trials for every model and strategy.

Two phases. Here, settings are chosen by the mean accuracy on a share of the TRAINING
images held out, over tuning seeds; of the test images one is left, so that nothing can
be chosen by them. Then ``kancl run experiment=FILE`` runs what was chosen on seeds that
no choice has seen, and ``kancl report`` says how it was chosen.
"""

from __future__ import annotations

import itertools
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from statistics import fmean
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

import kancl
from kancl.config import ConfigError, RunConfig
from kancl.config.schema import GROUPS as GROUP_NAMES
from kancl.config.typed import keys
from kancl.reporting import wide_console
from kancl.runner.request.check import check
from kancl.runner.request.compose import read_request
from kancl.runner.request.registry import GROUPS
from kancl.runner.run import run

EDGE = 0.02
"""A best value within this share of its range from an end lies at the edge."""

FOLDER = "tuned"
"""Below the log folder; ``kancl report`` reads what was chosen, and leaves out trials."""

QUIET = ("tensorboard=none", "evaluation.samples=0")
ONE_TEST_IMAGE = "scenario.test_samples=1"
RULES = {"scenario.validation", "scenario.test_samples", "seed"}


@dataclass(frozen=True)
class Space:
    """What a key may be: between two ends, or one of several values.

    Args:
        text: as it was typed.
        ends: of an interval; whole numbers if both are.
        log: whether the interval is searched by orders of magnitude.
        values: as they are typed, instead of ends.
    """

    key: str
    text: str
    ends: tuple[float, float] | None = None
    log: bool = False
    values: tuple[str, ...] = ()

    def suggested(self, trial: Any) -> str:
        """A value of Optuna's choosing, as it is typed."""
        if self.ends is None:
            return str(trial.suggest_categorical(self.key, list(self.values)))
        suggest = trial.suggest_float
        if all(isinstance(end, int) for end in self.ends):
            suggest = trial.suggest_int
        return repr(suggest(self.key, *self.ends, log=self.log))

    def at_edge(self, value: str) -> bool:
        """Whether better values may lie beyond the ends of what was tried."""
        try:
            x = float(value)
            ends = self.ends or tuple(sorted(float(v) for v in self.values))
        except ValueError:  # words have no order
            return False
        if self.ends is None:
            return len(ends) > 2 and x in (ends[0], ends[-1])
        low, high = (math.log(end) if self.log else end for end in self.ends)
        share = ((math.log(x) if self.log else x) - low) / (high - low)
        return not EDGE < share < 1 - EDGE


@dataclass(frozen=True)
class Tuned:
    """What was chosen for one scenario, model and strategy.

    Args:
        accuracy: best mean validation accuracy.
        chosen: values as they are typed, by key.
        n_lost: runs that did not complete; a trial with one counts as accuracy 0.
    """

    cell: tuple[str, ...]
    config: RunConfig
    accuracy: float
    chosen: Mapping[str, str]
    spaces: Sequence[Space]
    n_trials: int
    n_lost: int

    @property
    def edges(self) -> list[str]:
        """Keys whose best value lies at the edge of its space."""
        return [s.key for s in self.spaces if s.at_edge(self.chosen[s.key])]


def tune(
    overrides: Sequence[str],
    *,
    n_trials: int = 20,
    seeds: Sequence[int] = (1000, 1001, 1002),
    validation: float = 0.1,
    out: Path | str | None = None,
    console: Console | None = None,
) -> Path:
    """Tune every cell of the listed scenarios, models and strategies.

    Args:
        overrides: as for ``kancl run -m``. Groups with several names are cells, tuned one
            by one; every other key with an interval or several values is tuned, where
            the cell knows it.
        validation: share of the training images to choose by.
        out: the file to write; ``<log_dir>/tuned/<scenario>.yaml`` if None.

    Returns: that file, an experiment.
    Raises: ConfigError, before anything is trained, for what cannot work.
    """
    console = console or Console()
    optuna = _optuna()
    cells, spaces, fixed = _read(overrides)
    held_out = [f"scenario.validation={validation}", ONE_TEST_IMAGE, *QUIET]
    known = {cell: _known(cell) for cell in cells}
    for text in [space.text for space in spaces] + fixed:
        if not any(_takes(keys_of_cell, text) for keys_of_cell in known.values()):
            read_request([*cells[0], text], sweep=True)  # says what is wrong with it
    todo = {}
    for cell, taken in known.items():
        words = [*(text for text in fixed if _takes(taken, text)), *held_out, *cell]
        mine = [space for space in spaces if space.key in taken]
        todo[cell] = words, mine
        ends = [_first(space) for space in mine]
        check([_config([*words, *ends], seeds[0])])
    path = _path(out, _config(todo[cells[0]][0], seeds[0]))
    command = shlex.join(["kancl", "tune", *overrides])
    _check_unwritten(path, command)
    found = []
    for cell, (words, mine) in todo.items():
        sampler = optuna.samplers.TPESampler(seed=0)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        n = int(min(n_trials, n_combinations(mine)))
        if n == n_combinations(mine):
            _enqueue_all(study, mine)
        found.append(_tune_cell(study, cell, mine, words, n, seeds, console))
    _show(found, console)
    _write(path, command, found, fixed, seeds, validation)
    return path


def n_combinations(spaces: Sequence[Space]) -> float:
    """How many there are to try; infinitely many, of an interval."""
    return math.prod(math.inf if s.ends else len(s.values) for s in spaces)


def _enqueue_all(study: Any, spaces: Sequence[Space]) -> None:
    """Have every combination of lists tried once, and none twice."""
    for values in itertools.product(*(space.values for space in spaces)):
        study.enqueue_trial(dict(zip((space.key for space in spaces), values)))


def _tune_cell(
    study: Any,
    cell: tuple[str, ...],
    spaces: Sequence[Space],
    words: Sequence[str],
    n_trials: int,
    seeds: Sequence[int],
    console: Console,
) -> Tuned:
    n_lost = 0
    values: dict[int, dict[str, str]] = {}
    config: RunConfig | None = None
    for number in range(n_trials):
        trial = study.ask()
        values[number] = {space.key: space.suggested(trial) for space in spaces}
        said = [f"{key}={value}" for key, value in values[number].items()]
        accuracies = []
        for seed in seeds:
            config = _config([*words, *said], seed)
            config = replace(
                config, log_dir=str(Path(config.log_dir) / FOLDER / "runs")
            )
            summary = run(config, quiet=True)
            lost = summary["status"] != "completed"
            n_lost += lost
            accuracies.append(0.0 if lost else summary["validation_accuracy"])
        mean = fmean(accuracies) if min(accuracies) > 0 else 0.0
        study.tell(trial, mean)
        line = f"{' '.join(cell)} {number + 1}/{n_trials}: {' '.join(said)}"
        console.print(f"{line}  {mean:.2%}", highlight=False, markup=False)
    best = study.best_trial
    assert config is not None
    chosen = values[best.number]
    return Tuned(cell, config, best.value, chosen, spaces, n_trials, n_lost)


def _read(
    overrides: Sequence[str],
) -> tuple[list[tuple[str, ...]], list[Space], list[str]]:
    """Cells, what is tuned in them, and what all share."""
    parser = OverridesParser.create()
    groups: list[list[str]] = []
    spaces, fixed = [], []
    for text in overrides:
        try:
            (override,) = parser.parse_overrides([text])
        except HydraException as error:
            raise ConfigError(f"cannot read {text!r}: {error}") from error
        key = override.key_or_group
        if key in RULES or key == "experiment":
            raise ConfigError(
                f"{key} is not set here: --seeds, --validation say what to tune on, and "
                "tests wait until all is chosen"
            )
        if override.is_hydra_override():
            raise ConfigError(f"{text}: trials are made one after another, each here")
        if key in GROUP_NAMES:
            groups.append([f"{key}={name}" for name in _values(override)])
        elif override.is_sweep_override():
            spaces.append(_space(override, text))
        else:
            fixed.append(text)
    if not spaces:
        raise ConfigError(
            "nothing to tune: give a key several values, or an interval, such as "
            "'optimizer.lr=tag(log, interval(1e-4, 1e-2))'"
        )
    return list(itertools.product(*groups)), spaces, fixed


def _values(override: Override) -> list[str]:
    if override.is_sweep_override():
        return [str(value) for value in override.sweep_string_iterator()]
    return [override.get_value_element_as_str()]


def _space(override: Override, text: str) -> Space:
    key = override.key_or_group
    sweep = override.value()
    if not isinstance(sweep, IntervalSweep):
        return Space(key, text, values=tuple(_values(override)))
    ends, log = (sweep.start, sweep.end), "log" in sweep.tags
    assert ends[0] is not None and ends[1] is not None
    if not ends[0] < ends[1] or (log and ends[0] <= 0):
        raise ConfigError(f"{text}: its ends must increase, above 0 for tag(log, ...)")
    return Space(key, text, (ends[0], ends[1]), log)


def _known(cell: tuple[str, ...]) -> set[str]:
    """The keys that the cell's builders take."""
    (config,) = read_request(cell, sweep=False).configs
    if "validation" not in config.scenario.options:
        raise ConfigError(
            f"scenario={config.scenario.name} holds nothing out to tune on; nearest: "
            "scenario=split_mnist"
        )
    names = {group: getattr(config, group).name for group in GROUP_NAMES}
    return keys(GROUPS, {**names, "match_to": config.match_to.name})


def _takes(known: set[str], text: str) -> bool:
    """Whether an override applies to builders that know these keys, or to the model
    that one of them is matched to.
    """
    key = text.partition("=")[0]
    return key in known or key.replace("model.", "match_to.", 1) in known


def _config(words: Sequence[str], seed: int) -> RunConfig:
    (config,) = read_request([*words, f"seed={seed}"], sweep=False).configs
    return config


def _first(space: Space) -> str:
    return f"{space.key}={space.values[0] if space.ends is None else space.ends[0]}"


def _path(out: Path | str | None, config: RunConfig) -> Path:
    if out is not None:
        return Path(out)
    incremental = config.scenario.options.get("incremental")
    name = config.scenario.name + (f"-{incremental}" if incremental else "")
    return Path(config.log_dir) / FOLDER / f"{name}.yaml"


def _check_unwritten(path: Path, command: str) -> None:
    """What another command chose is not written over."""
    if path.is_file() and f"# {command}\n" not in path.read_text():
        raise ConfigError(f"{path} was chosen by another command; --out names a file")


def _write(
    path: Path,
    command: str,
    found: Sequence[Tuned],
    fixed: Sequence[str],
    seeds: Sequence[int],
    validation: float,
) -> None:
    counts = sorted({tuned.n_trials for tuned in found})
    n_trials = " to ".join(map(str, dict.fromkeys([counts[0], counts[-1]])))
    head = [
        "# Chosen by",
        f"# {command}",
        f"# with {n_trials} trials each, on {validation:g} of the training images, tuning "
        f"seeds {', '.join(map(str, seeds))}; test images were not used.",
        f"# {date.today().isoformat()}, kancl {kancl.__version__}. Run what was chosen: "
        f"kancl run experiment={path}",
    ]
    content = {
        "question": "With settings chosen alike, which of the sides forgets less?",
        "control": "Equal trials for every side, chosen on held-out training images.",
        "shared": [*fixed, "seed=range(5)"],
        "sides": [
            [*t.cell, *(f"{key}={value}" for key, value in t.chosen.items())]
            for t in found
        ],
        "tuning": [_record(tuned, seeds) for tuned in found],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    body = OmegaConf.to_yaml(OmegaConf.create(content))
    path.write_text("\n".join(head) + f"\n{body}")


def _record(tuned: Tuned, seeds: Sequence[int]) -> dict[str, Any]:
    config = tuned.config
    return {
        "scenario": config.scenario.name,
        "incremental": config.scenario.options.get("incremental"),
        "model": config.model.name,
        "strategy": config.strategy.name,
        "trials": tuned.n_trials,
        "seeds": list(seeds),
        "lost_runs": tuned.n_lost,
        "validation_accuracy": tuned.accuracy,
        "spaces": [space.text for space in tuned.spaces],
        "chosen": dict(tuned.chosen),
        "at_edge": tuned.edges,
    }


def _show(found: Sequence[Tuned], console: Console) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("cell", "validation %", "chosen", "at the edge of its range"):
        table.add_column(title, justify="right" if "%" in title else "left")
    for tuned in found:
        chosen = ", ".join(f"{key}={value}" for key, value in tuned.chosen.items())
        cells = (" ".join(tuned.cell), f"{100 * tuned.accuracy:.2f}", chosen)
        table.add_row(*cells, ", ".join(tuned.edges))
    wide_console(console).print(table)
    for tuned in found:
        if tuned.edges:
            line = (
                f"{' '.join(tuned.cell)}: the best value of {', '.join(tuned.edges)} "
            )
            line += "lies at the edge of its range: widen it before believing it"
            console.print(line, style="yellow", highlight=False, markup=False)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ConfigError(
            "kancl tune needs Optuna; nearest: pip install 'kancl[tune]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
