"""How long a person waits for the first word: CPU seconds of whole commands."""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from kancl.bench.harness import Rows, verdict

NOTHING, IMPORTS = "python -c pass", "import torch, Avalanche, Hydra"
MOST_SECONDS = {"--help": 0.3, "--version": 0.3, "run modle=kan": 1.0, "list ewc": 1.0}
MOST_SECONDS["status, of 100 runs"] = 1.0
ENDS = {"kancl run modle=kan": 2, "kancl status, of 100 runs": 1}
"""Exit codes of those that don't end with 0: a wrong key; runs that failed."""
MOST_TIMES = 1.3
"""Longest time to a first training iteration, as a multiple of the imports'."""
FIRST = """
import time, sys
from kancl.cli import main
from kancl.observe.recorder import RecorderPlugin
def end(self, strategy, **kwargs):
    print(time.process_time()); sys.stdout.flush(); __import__("os")._exit(0)
RecorderPlugin.after_training_iteration = end
main(["run", "-q", "tensorboard=none", "evaluation.samples=0", "overwrite=true"])
"""


def bench_answers(*, repeats: int = 5) -> Iterator[Rows]:
    """CPU seconds until a command has answered, warm, commands in turn.

    Args:
        repeats: of each; the medians count. One more, before, warms files and caches.
    """
    kancl = [sys.executable, "-m", "kancl"]
    commands = {NOTHING: [sys.executable, "-c", "pass"]}
    commands |= {f"kancl {word}": [*kancl, *word.split()] for word in MOST_SECONDS}
    commands["kancl status, of 100 runs"] = [*kancl, "status"]
    imports = "import torch, avalanche, hydra; from avalanche.training import Naive"
    commands[IMPORTS] = [sys.executable, "-c", imports]
    commands["kancl run, first iteration"] = [sys.executable, "-c", FIRST]
    with tempfile.TemporaryDirectory() as folder:
        _plant_runs(Path(folder) / "logs")
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(repeats + 1):
            for name, command in commands.items():
                took = _cpu_seconds(command, folder, ENDS.get(name, 0))
                seconds[name] += [took] * (turn > 0)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    yield [
        {"answer": name, "CPU seconds": value, **_bound(name, value, median[IMPORTS])}
        for name, value in median.items()
    ]


def _bound(name: str, value: float, imports: float) -> dict[str, object]:
    most = MOST_SECONDS.get(name.removeprefix("kancl "))
    if name.endswith("first iteration"):
        most = MOST_TIMES * imports
    if most is None:
        return {"at most": None, "verdict": ""}
    return {"at most": most, "verdict": verdict(value <= most)}


def _cpu_seconds(command: Sequence[str], folder: str, end: int) -> float:
    """User and system time of a process and its children.

    Raises: RuntimeError if it ends with another exit code: that is no answer.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True)
    if done.returncode != end:
        raise RuntimeError(f"{command} ended with {done.returncode}, not {end}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _plant_runs(log_dir: Path) -> None:
    """100 runs that were begun."""
    for k in range(100):
        run = log_dir / "split_mnist-class" / "kan-naive" / f"seed{k}-{k:08x}"
        run.mkdir(parents=True)
        (run / "config.yaml").write_text(f"seed: {k}\n")
        (run / "summary.json").write_text(json.dumps({"status": "failed"}))
