"""How much sooner a sweep is done by a process per core (Joblib) than by one process.

The same runs, in fresh folders, by whole processes in turns, start-up and imports
included: one process that makes one run after another on one core, as a sweep without a
launcher does, and ``hydra/launcher=joblib``. The longer the runs, the less start-up counts.

    kancl bench sweep --runs 6 --repeats 3 training.epochs=5
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from kancl.bench.arguments import positive
from kancl.config import ConfigError
from kancl.runner.studies.engines import n_cores

TARGET = 0.85
"""Of the number of cores: 1.7 times as fast on two."""

SIDES = {
    "one process": ["threads=1"],
    "joblib": ["threads=1", "hydra/launcher=joblib"],
}
"""Name: what it adds to the command line; the first is what the other is held to."""


def sweep_seconds(words: Sequence[str], n_runs: int) -> float:
    """Of a whole ``kancl run -m`` in a fresh folder, all of whose runs have to be done."""
    with tempfile.TemporaryDirectory() as folder:
        seeds = ",".join(map(str, range(n_runs)))
        command = [sys.executable, "-m", "kancl", "run", "-m", "-q", f"seed={seeds}"]
        start = time.perf_counter()
        ended = subprocess.run(
            [*command, f"log_dir='{folder}'", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        seconds = time.perf_counter() - start
        summaries = Path(folder).glob("*/*/seed*/summary.json")
        states = [json.loads(path.read_text())["status"] for path in summaries]
        if ended.returncode or states != n_runs * ["completed"]:
            raise RuntimeError(f"the sweep {words} failed:\n{ended.stdout[-2000:]}")
    return seconds


def measure(words: Sequence[str], n_runs: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of each side, a list over the repeats; each repeat has both."""
    seconds: dict[str, list[float]] = {name: [] for name in SIDES}
    for _ in range(repeats):
        for name, extra in SIDES.items():
            seconds[name].append(sweep_seconds([*words, *extra], n_runs))
    return seconds


def ratios(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Median over the repeats of how many times as fast as the first each one is."""
    first = next(iter(seconds.values()))
    return {
        name: statistics.median(a / b for a, b in zip(first, own))
        for name, own in seconds.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if Joblib is less than 0.85 times the cores as fast."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=positive, default=6)
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument("settings", nargs="*", help="of the runs: training.epochs=2")
    options = parser.parse_args(arguments)
    cores = n_cores()
    if cores < 2:
        raise ConfigError("one core: no sweep is faster here; free a second one")
    if options.runs < 1 or options.repeats < 1:
        raise ConfigError("--runs and --repeats must be at least 1")
    seconds = measure(options.settings, options.runs, options.repeats)
    speed_up = ratios(seconds)
    print(f"{options.runs} runs, {cores} cores, medians of {options.repeats}")
    for name, own in seconds.items():
        print(f"{name:<12} {statistics.median(own):>7.1f} s {speed_up[name]:>6.2f} x")
    passed = speed_up["joblib"] >= TARGET * cores
    print(f"joblib >= {TARGET * cores:.1f} x: {'PASS' if passed else 'FAIL'}")
    return int(not passed)
