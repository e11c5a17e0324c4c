"""Real processes, really killed, at moments drawn at random.

``pytest -n0 -m proof tests/runner/checkpoint/test_kill.py -s`` kills 64 times and prints
what it found; ``test_sweep.py`` and ``test_folder.py`` kill once in each default run.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from kancl.runner.identity import run_folder
from kancl.runner.request.compose import read_request
from kancl.runner.run import run
from kancl.runs import read_completed
from tests.processes import exit_code, forked

CELLS = [
    (f"scenario={scenario}", f"model={model}", f"strategy={strategy}")
    for scenario in ("split_mnist", "permuted_mnist")
    for model, strategy in [
        *(("kan", name) for name in ("naive", "ewc", "si")),
        *(("mlp", name) for name in ("replay", "der", "lwf")),
        *(("kan_local", name) for name in ("naive", "gram_ewc")),
    ]
]
SMALL = (
    *"scenario.train_samples=200 scenario.test_samples=50 scenario.n_experiences=2".split(),
    *"training.batch_size=16 training.epochs=3 evaluation.samples=20 model.hidden=[8]".split(),
    *"device=cpu keep_model=true checkpoint.every_iterations=5".split(),
    "tensorboard=numbers",
)
BYTES = ("model.pt", "metrics.csv", "accuracy_matrix.csv")


def prove(
    cell: tuple[str, ...], tmp_path: Path, n_kills: int, draw: random.Random
) -> dict[str, object]:
    """Kill a run ``n_kills`` times, let it end, and compare it with a whole one."""

    (config,) = read_request([*SMALL, *cell], sweep=False).configs
    places = {
        n: replace(config, log_dir=str(tmp_path / n)) for n in ("whole", "killed")
    }

    def make(place: str) -> None:
        run(places[place], console=Console(quiet=True))

    start = time.monotonic()
    assert exit_code(forked(lambda: make("whole"))) == 0
    seconds = time.monotonic() - start
    folder, whole = run_folder(places["killed"]), run_folder(places["whole"])
    kills = 0
    while kills < n_kills:
        newest = max(folder.glob("checkpoint/*"), default=None)
        pid = forked(lambda: make("killed"))
        late = time.monotonic() + seconds
        while kills % 2 and time.monotonic() < late:  # every other one while it trains
            if max(folder.glob("checkpoint/iteration*"), default=None) != newest:
                break
            time.sleep(0.001)
        time.sleep(draw.uniform(0, seconds / 3 if kills % 2 else seconds))
        os.kill(pid, signal.SIGKILL)
        status = exit_code(pid)
        kills += status == -signal.SIGKILL
        if status == 0:  # it was at its end before: the next one begins anew
            assert read_completed(run_folder(places["killed"])) is not None
            shutil.rmtree(folder)
    assert exit_code(forked(lambda: make("killed"))) == 0
    summary = read_completed(run_folder(places["killed"]))
    assert summary is not None
    for name in BYTES:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    env = json.loads((folder / "env.json").read_text())
    resumed_at = env.get("resumed_at_iterations", [])
    make("killed")  # completed: nothing is done, nothing is lost
    assert json.loads((folder / "summary.json").read_text()) == summary
    return {"kills": kills, "resumed at": resumed_at, "of": summary["n_iterations"]}


@pytest.mark.proof
@pytest.mark.parametrize("cell", CELLS, ids=" ".join)
def test_four_kills_of_each(cell: tuple[str, ...], tmp_path: Path) -> None:
    found = prove(cell, tmp_path, 4, random.Random(" ".join(cell)))
    print(*cell, *(f"{key}: {value}" for key, value in found.items()), sep="  ")
