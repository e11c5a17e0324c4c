"""How much sooner a sweep is done by a process per core (Joblib) than by one process.

The same runs, in fresh folders, by whole processes in turns, start-up and imports
included: one process that makes one run after another on one core, as a sweep without a
launcher does, and ``hydra/launcher=joblib``. The longer the runs, the less start-up counts.

    kancl bench sweep --runs 6 --repeats 3 training.epochs=5
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from kancl.bench.harness import Rows, Step, Value, command, take_turns, verdict
from kancl.config import ConfigError
from kancl.runner.studies.engines import n_cores

TARGET = 0.85
"""Of the number of cores: 1.7 times as fast on two."""

VARIANTS = {
    "one process": ["threads=1"],
    "joblib": ["threads=1", "hydra/launcher=joblib"],
}
"""Name: what it adds to the command line."""


def sweep(words: Sequence[str], n_runs: int) -> None:
    """A whole ``kancl run -m`` in a fresh folder.

    Raises: RuntimeError if one of its runs is not completed.
    """
    with tempfile.TemporaryDirectory() as folder:
        seeds = ",".join(map(str, range(n_runs)))
        command = [sys.executable, "-m", "kancl", "run", "-m", "-q", f"seed={seeds}"]
        ended = subprocess.run(
            [*command, f"log_dir='{folder}'", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        summaries = Path(folder).glob("*/*/seed*/summary.json")
        states = [json.loads(path.read_text())["status"] for path in summaries]
        if ended.returncode or states != n_runs * ["completed"]:
            raise RuntimeError(f"the sweep {words} failed:\n{ended.stdout[-2000:]}")


def bench_sweep(
    *, runs: int = 6, repeats: int = 3, settings: Sequence[str] = ()
) -> Iterator[Rows]:
    """Time a sweep of as many seeds both ways.

    Args:
        settings: of the runs: training.epochs=2.

    Raises: ConfigError where there is one core only.
    """
    cores = n_cores()
    if cores < 2:
        raise ConfigError("one core: no sweep is faster here; free a second one")

    def prepare(extra: Sequence[str], turn: int) -> Step:
        return partial(sweep, [*settings, *extra], runs)

    variants = {name: partial(prepare, extra) for name, extra in VARIANTS.items()}
    timings = take_turns(variants, repeats)
    one, joblib = timings.values()
    rows: list[dict[str, Value]] = [
        {"variant": name, "seconds": timing.median, "times as fast": one.times(timing)}
        for name, timing in timings.items()
    ]
    target = TARGET * cores
    rows[0] |= {"runs": runs, "cores": cores, "target": None, "verdict": ""}
    rows[1] |= {"runs": runs, "cores": cores, "target": target}
    rows[1] |= {"verdict": verdict(one.times(joblib) >= target)}
    yield rows


main = command(bench_sweep)
