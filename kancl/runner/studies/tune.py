"""Choose settings on validation images, with as many trials for every model and strategy."""

import itertools
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override
from omegaconf import OmegaConf
from rich.console import Console

from kancl import __version__
from kancl.config import ConfigError, RunConfig
from kancl.config.files import TYPED
from kancl.config.schema import CHOICES
from kancl.config.typed import all_options
from kancl.config.values import as_typed
from kancl.reading import MOST_YAML, read_bytes
from kancl.reporting.table import Column, Table
from kancl.runner.check import check
from kancl.runner.identity import run_folder
from kancl.runner.registry import GROUPS
from kancl.runner.request.compose import parsed, read_request
from kancl.runner.run import run
from kancl.runs import write_whole
from kancl.runs.names import TRIALS

try:
    import optuna
    from optuna import distributions
except ImportError as error:
    why = "kancl tune needs Optuna; nearest: pip install 'kancl[tune]'"
    raise ConfigError(why) from error

EDGE = 0.02  # a best value within this share of its range from an end lies at the edge
QUIET = ("scenario.test_samples=1", "tensorboard=none", "evaluation.samples=0")
RULES = {"scenario.validation", "scenario.test_samples", "seed", "experiment"}

Cell = tuple[str, ...]  # scenario, model and strategy, as they are typed
Record = dict[str, Any]  # how a cell was tuned, as its file and kancl report have it
Interval = distributions.FloatDistribution | distributions.IntDistribution


@dataclass(frozen=True)
class Space:
    """What a key may be."""

    key: str
    text: str  # as it was typed
    distribution: distributions.BaseDistribution  # an interval, or values as typed

    @property
    def first(self) -> object:
        return self.choices[0] if self.choices else getattr(self.distribution, "low")

    @property
    def choices(self) -> tuple[str, ...]:
        """All values, as they are typed; none of an interval."""
        return getattr(self.distribution, "choices", ())

    def at_edge(self, value: str) -> bool:
        """Whether better values may lie beyond the ends of what was tried."""
        space = self.distribution
        try:
            if isinstance(space, Interval):
                scale = math.log if space.log else float
                low, high, x = map(scale, (space.low, space.high, float(value)))
                return not EDGE < (x - low) / (high - low) < 1 - EDGE
            tried = sorted(map(float, self.choices))
        except ValueError:  # words have no order
            return False
        return len(tried) > 2 and float(value) in (tried[0], tried[-1])


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

    Settings are chosen by the mean accuracy on a share of the TRAINING images held out,
    over tuning seeds; of the test images one is left, so that nothing can be chosen by
    them. ``kancl run experiment=FILE`` then runs what was chosen on other seeds.

    Args:
        overrides: as for ``kancl run -m``. Groups with several names are cells, tuned one
            by one; any other key with an interval or several values is tuned.
        validation: share of the training images to choose by.
        out: the file to write; ``<log_dir>/tuned/<scenario>.yaml`` if None.
    Returns: that file, an experiment.
    Raises: ConfigError, before anything is trained, for what cannot work.
    """
    console = console or Console()
    cells, spaces, fixed = _read(overrides)
    known = {cell: _known(cell) for cell in cells}
    for text in [f"{space.key}={space.first}" for space in spaces] + fixed:
        if not any(_takes(keys_of_cell, text) for keys_of_cell in known.values()):
            read_request([*cells[0], text], sweep=True)  # says what is wrong with it
    held_out = [f"scenario.validation={validation}", *QUIET]
    todo: dict[Cell, tuple[list[str], list[Space]]] = {}
    for cell, taken in known.items():
        words = [*(text for text in fixed if _takes(taken, text)), *held_out, *cell]
        todo[cell] = words, [space for space in spaces if space.key in taken]
        firsts = [f"{space.key}={space.first}" for space in todo[cell][1]]
        check([_config([*words, *firsts, f"seed={seeds[0]}"])])
    first = _config(todo[cells[0]][0])
    name = f"{run_folder(first).parts[-3]}.yaml"
    path = Path(out or Path(first.log_dir) / TRIALS / name)
    command = as_typed("kancl", "tune", *overrides)
    if path.is_file() and f"# {command}\n" not in _text(path):
        raise ConfigError(f"{path} was chosen by another command; --out names a file")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    tuned = partial(_tune_cell, n_trials=n_trials, seeds=seeds, console=console)
    records = {cell: tuned(cell, *plan) for cell, plan in todo.items()}
    _show(records, console)
    _write(path, command, records, fixed, validation)
    return path


def _text(path: Path) -> str:
    """Raises: ConfigError if it is none."""
    try:
        return read_bytes(path, MOST_YAML).decode()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error


def _tune_cell(
    cell: Cell,
    words: Sequence[str],
    spaces: Sequence[Space],
    n_trials: int,
    seeds: Sequence[int],
    console: Console,
) -> Record:
    sampler = optuna.samplers.TPESampler(seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    combinations = math.prod(len(space.choices) or math.inf for space in spaces)
    if combinations <= n_trials:  # each is tried once
        n_trials = int(combinations)
        for values in itertools.product(*(space.choices for space in spaces)):
            study.enqueue_trial(dict(zip((space.key for space in spaces), values)))
    n_lost = 0  # runs; a trial with one counts as accuracy 0
    for number in range(n_trials):
        trial = study.ask({space.key: space.distribution for space in spaces})
        overrides = [f"{key}={value}" for key, value in trial.params.items()]
        accuracies = []
        for seed in seeds:
            config = _config([*words, *overrides, f"seed={seed}"])
            folder = Path(config.log_dir) / TRIALS / "runs"
            summary = run(replace(config, log_dir=str(folder)), quiet=True)
            lost = summary["status"] != "completed"
            n_lost += lost
            accuracies.append(0.0 if lost else summary["validation_accuracy"])
        mean = fmean(accuracies) if min(accuracies) > 0 else 0.0
        study.tell(trial, mean)
        line = f"{' '.join(cell)} {number + 1}/{n_trials}: {' '.join(overrides)}"
        console.print(f"{line}  {mean:.2%}", highlight=False, markup=False)
    chosen = {space.key: str(study.best_params[space.key]) for space in spaces}
    return {
        "scenario": config.scenario.name,
        "incremental": config.scenario.options.get("incremental"),
        "model": config.model.name,
        "strategy": config.strategy.name,
        "trials": n_trials,
        "seeds": list(seeds),
        "lost_runs": n_lost,
        "validation_accuracy": study.best_value,
        "spaces": [space.text for space in spaces],
        "chosen": chosen,
        "at_edge": [space.key for space in spaces if space.at_edge(chosen[space.key])],
    }


def _read(overrides: Sequence[str]) -> tuple[list[Cell], list[Space], list[str]]:
    """Cells, what is tuned in them, and what all share."""
    groups: list[list[str]] = []
    spaces, fixed = [], []
    for text in overrides:
        override = parsed(text)
        key = override.key_or_group
        if key in RULES:
            what = "say what to tune on, and tests wait until all is chosen"
            raise ConfigError(f"{key} is not set here: --seeds, --validation {what}")
        if override.is_hydra_override():
            raise ConfigError(f"{text}: trials are made one after another, each here")
        if key in GROUPS:
            groups.append([f"{key}={name}" for name in _values(override)])
        elif override.is_sweep_override():
            spaces.append(Space(key, text, _distribution(override, text)))
        else:
            fixed.append(text)
    if not spaces:
        example = "'optimizer.lr=tag(log, interval(1e-4, 1e-2))'"
        hint = f"give a key several values, or an interval, such as {example}"
        raise ConfigError(f"nothing to tune: {hint}")
    return list(itertools.product(*groups)), spaces, fixed


def _values(override: Override) -> list[str]:
    if override.is_sweep_override():
        return [str(value) for value in override.sweep_string_iterator()]
    return [override.get_value_element_as_str()]


def _distribution(override: Override, text: str) -> distributions.BaseDistribution:
    """Whole numbers if both ends of an interval are."""
    sweep: Any = override.value()
    if not isinstance(sweep, IntervalSweep):
        return distributions.CategoricalDistribution(_values(override))
    low: Any = sweep.start
    high: Any = sweep.end
    whole = isinstance(low, int) and isinstance(high, int)
    kind = distributions.IntDistribution if whole else distributions.FloatDistribution
    with suppress(ValueError):  # of Optuna, for such ends
        space = kind(low, high, log="log" in sweep.tags)
        if not space.single():
            return space
    raise ConfigError(f"{text}: its ends must increase, above 0 for tag(log, ...)")


def _known(cell: Cell) -> set[str]:
    """The keys that the cell's builders take."""
    config = _config(cell)
    if "validation" not in config.scenario.options:
        why = "holds nothing out to tune on; nearest: scenario=split_mnist"
        raise ConfigError(f"scenario={config.scenario.name} {why}")
    return set(all_options(GROUPS, {k: getattr(config, k).builder for k in CHOICES}))


def _takes(known: set[str], text: str) -> bool:
    """Whether an override applies to such builders, or to whom one of them is matched to."""
    key = text.partition("=")[0]
    return key in known or key.replace("model.", "match_to.", 1) in known


def _config(words: Sequence[str]) -> RunConfig:
    (config,) = read_request(words, sweep=False).configs
    return config


def _write(
    path: Path,
    command: str,
    records: Mapping[Cell, Record],
    fixed: Sequence[str],
    validation: float,
) -> None:
    counts = [record["trials"] for record in records.values()]
    n_trials = " to ".join(map(str, sorted({min(counts), max(counts)})))
    seeds = ", ".join(map(str, [*records.values()][0]["seeds"]))
    head = f"""\
# Chosen by
# {command}
# with {n_trials} trials each, on {validation:g} of the training images, tuning seeds \
{seeds}; test images were not used.
# {date.today().isoformat()}, kancl {__version__}. Run what was chosen: \
kancl run experiment={path}
"""
    content = {
        "question": "With settings chosen alike, which of them forgets less?",
        "control": "Equal trials for every variant, chosen on held-out training images.",
        "shared": [*(f for f in fixed if not _is_typed(f)), "seed=range(5)"],
        "variants": [[*cell, *_chosen(record)] for cell, record in records.items()],
        "tuning": list(records.values()),
    }
    write_whole(path, (head + OmegaConf.to_yaml(OmegaConf.create(content))).encode())


def _is_typed(text: str) -> bool:
    return text.partition("=")[0] in TYPED


def _chosen(record: Record) -> list[str]:
    return [f"{key}={value}" for key, value in record["chosen"].items()]


def _show(records: Mapping[Cell, Record], console: Console) -> None:
    columns = [Column("cell"), Column("validation", "{:.2%}".format)]
    columns += [Column("chosen", wraps=True), Column("at the edge of its range")]
    rows, notes = [], []
    for cell, record in records.items():
        name, edges = " ".join(cell), ", ".join(record["at_edge"])
        share, chosen = record["validation_accuracy"], ", ".join(_chosen(record))
        rows.append([name, share, chosen, edges])
        if edges:
            at = f"the best value of {edges} lies at the edge of its range"
            notes.append(f"{name}: {at}: widen it before believing it")
    Table("", columns, rows, notes=notes).show(console)
