"""Sweeps by Joblib, Ray and submitit, whose processes and nodes die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
from rich.console import Console

from kancl.config import ConfigError, RunConfig, config_dir
from kancl.runner import launchers, machine
from kancl.runner.identity import run_folder
from kancl.runner.request.compose import read_request
from kancl.runner.studies.sweep import make_runs
from kancl.runs import RunFolder
from kancl.runs.status import read_status
from tests.runner.conftest import SMALL

SCRIPT = Path(__file__).parent / "studies" / "planted_sweep.py"
MISSING = "hydra-{}-launcher is not installed: pip install 'kancl[{}]'"


def test_every_engine_has_a_preset() -> None:
    files = {path.stem for path in (config_dir() / "launcher").glob("*.yaml")}
    assert files == launchers.EXTRAS.keys()


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(launchers.EXTRAS, "basic", ("sweep", "no_such_launcher"))
    request = read_request(["hydra/launcher=basic"], sweep=False)
    with pytest.raises(ConfigError, match=r"basic needs: pip install 'kancl\[sweep\]'"):
        launchers.launch(request.configs, request.launcher, make=print)


def test_with_ray_a_run_sees_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launchers, "is_installed", lambda name: True)
    request = read_request(["hydra/launcher=ray", "device=cuda:1"], sweep=False)
    with pytest.raises(ConfigError, match="^device=cuda:1: Ray .* set device=cuda$"):
        launchers.launch(request.configs, request.launcher, make=print)


@pytest.mark.parametrize(
    "words, message",
    [
        (["hydra.launcher.ray={_target_: os.system}"], "nearest: hydra/launcher"),
        (["experiment={}"], "refused in an experiment's file"),
    ],
)
def test_no_file_and_no_value_runs_code(
    words: list[str], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "strange.yaml"
    path.write_text("variants: [['hydra.launcher.setup=[\"touch booby\"]']]")
    with pytest.raises(ConfigError, match=message):
        read_request([word.replace("={}", f"={path}") for word in words], sweep=True)


def test_what_breaks_the_launcher_is_launched_alone(tmp_path: Path) -> None:
    words = [*SMALL, f"log_dir='{tmp_path}'", "seed=range(6)", "hydra/launcher=basic"]
    request = read_request(words, sweep=True)
    made: Counter[int] = Counter()

    def make(config: RunConfig) -> None:
        made[config.seed] += 1
        folder = RunFolder(run_folder(config))
        folder.path.mkdir(parents=True, exist_ok=True)
        (folder.path / "env.json").write_text("{}")
        if config.seed == 2:
            raise MemoryError
        if config.seed == 4 and made[4] == 1:
            raise MemoryError  # beside the culprit: dies once
        folder.write_json("summary.json", {"status": "completed"})

    launchers.launch(request.configs, request.launcher, make)
    assert made == {0: 1, 1: 1, 2: 2, 3: 1, 4: 2, 5: 1}


def test_a_run_that_cannot_be_begun_costs_a_launchers_sweep_that_run_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SMALL, "training.iterations=1", "evaluation.samples=0", "model=mlp"]
    words += ["scenario.n_experiences=2", f"log_dir='{tmp_path}'", "seed=0,1"]
    request = read_request([*words, "hydra/launcher=basic"], sweep=True)
    first, second = map(run_folder, request.configs)
    first.parent.mkdir(parents=True)
    first.write_text("a file")
    console = Console(quiet=True)
    made = make_runs(request, console=console, quiet=True)
    assert [summary["status"] for summary in made] == ["failed", "completed"]
    assert f"cannot write {first}" in capsys.readouterr().err
    assert first.read_text() == "a file" and (second / "summary.json").is_file()


def places_on(n_cards: int, gib: int, *devices: str) -> machine.Places:
    """On a machine of 128 cores and so many GPUs."""
    card = SimpleNamespace(total_memory=gib * 2**30)
    with (
        mock.patch("torch.cuda.is_available", lambda: n_cards > 0),
        mock.patch("torch.cuda.device_count", lambda: n_cards),
        mock.patch("torch.cuda.get_device_properties", lambda device: card),
        mock.patch("joblib.cpu_count", lambda: 128),
    ):
        return machine.places(devices, 1)


def test_gpus_get_so_many_runs_as_their_memory_holds() -> None:
    assert places_on(0, 0, "auto") == machine.Places(128)
    assert places_on(2, 80, "cpu").processes == 128
    large, small = places_on(1, 80, "auto"), places_on(4, 16, "cuda")
    assert (large.processes, large.share) == (8, 1 / 8)
    assert str(large) == "at most 8 runs at a time on 1 GPU, 10.0 GiB each"
    assert (small.processes, small.share) == (16, 1 / 4)
    assert places_on(4, 80, "cuda:1", "cuda:3").n_cards == 2


def write_card(config: RunConfig) -> None:
    path = Path(config.log_dir) / f"{config.seed}.txt"
    path.write_text(f"{os.environ['CUDA_VISIBLE_DEVICES']} {os.getpid()}")


@pytest.mark.proof
@pytest.mark.skipif(
    not launchers.is_installed("joblib"), reason=MISSING.format("joblib", "sweep")
)
def test_each_of_joblib_s_processes_sees_one_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    two = machine.Places(2, n_cards=2, card_bytes=2**33)
    monkeypatch.setattr(machine, "places", lambda devices, threads: two)
    words = [*SMALL, f"log_dir='{tmp_path}'", "seed=range(6)", "hydra/launcher=joblib"]
    request = read_request(words, sweep=True)
    launchers.launch(request.configs, request.launcher, write_card)
    seen = {tuple(path.read_text().split()) for path in tmp_path.glob("*.txt")}
    assert {card for card, _ in seen} <= {"3", "5"}
    assert len(seen) == len({process for _, process in seen})  # each keeps its own
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,5"
    assert "at most 2 runs at a time on 2 GPUs, 8.0 GiB each" in capsys.readouterr().err


class Sweep:
    """The script's sweep, in a folder."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        small = [word for word in SMALL if word != "device=cpu"]
        self.command = [sys.executable, str(SCRIPT), *small, *words]

    def start(self, **plants: object) -> subprocess.Popen[str]:
        (self.folder / "plants.json").write_text(json.dumps(plants))
        (self.folder / "made.txt").write_text("")
        return subprocess.Popen(
            self.command,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
        )

    def made(self) -> list[tuple[int, str]]:
        """Cells that were trained, and on which node."""
        lines = (self.folder / "made.txt").read_text().splitlines()
        return [(int(line.split()[0]), line.split()[1]) for line in lines]

    def states(self) -> Counter[str]:
        return Counter(cell.state for cell in read_status(self.folder / "logs"))


def finished(process: subprocess.Popen[str], seconds: int) -> tuple[int, str]:
    """Exit code and what it said on stderr."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        raise
    print(out, err)
    return process.returncode, err


@pytest.mark.proof
@pytest.mark.skipif(
    not launchers.is_installed("joblib"), reason=MISSING.format("joblib", "sweep")
)
def test_joblib_outlives_a_killed_process(tmp_path: Path) -> None:
    sweep = Sweep(
        tmp_path,
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
        "strategy.cell=range(6)",
    )
    code, err = finished(sweep.start(**{"1": "kill", "4": "raise"}), 600)
    assert code == 1 and "2 of 6 runs: 2 failed" in err
    assert sweep.states() == {"completed": 4, "failed": 1, "stopped": 1}
    code, err = finished(sweep.start(), 600)
    assert code == 0 and {cell for cell, _ in sweep.made()} == {1, 4}


@pytest.mark.proof
@pytest.mark.skipif(
    not launchers.is_installed("submitit_local"),
    reason=MISSING.format("submitit", "slurm"),
)
def test_submitit_outlives_a_killed_job(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, "hydra/launcher=submitit_local", "strategy.cell=range(3)")
    code, err = finished(sweep.start(**{"0": "kill"}), 600)
    assert code == 1 and "1 of 3 runs: 1 failed" in err
    assert sweep.states() == {"completed": 2, "stopped": 1}
    code, err = finished(sweep.start(), 600)
    assert code == 0 and {cell for cell, _ in sweep.made()} == {0}


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[object, object]]:
    """A Ray cluster of two nodes with a core each, and the second node."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "env_vars": {"NODE": "1"}}
    )
    try:
        yield cluster, cluster.add_node(num_cpus=1, env_vars={"NODE": "2"})
    finally:
        cluster.shutdown()


@pytest.mark.proof
@pytest.mark.skipif(find_spec("ray") is None, reason=MISSING.format("ray", "ray"))
@pytest.mark.filterwarnings("default")
def test_a_ray_cluster_that_loses_a_node(tmp_path: Path, two_nodes) -> None:
    cluster, second = two_nodes
    sweep = Sweep(
        tmp_path,
        "hydra/launcher=ray",
        f"hydra.launcher.ray.init.address='{cluster.address}'",
        "hydra.launcher.ray.remote.max_retries=1",
        "strategy.cell=range(24)",
    )
    plants = {"3": "raise", "7": "nan", "12": "kill", "18": "raise"}
    process = sweep.start(**plants, seconds=1)
    until = time.monotonic() + 400
    while len({cell for cell, node in sweep.made() if node == "2"}) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.1)
    cluster.remove_node(second, allow_graceful=False)
    code, err = finished(process, 900)
    assert code == 1 and "4 of 24 runs: " in err and "1 diverged" in err
    assert sweep.states() == {
        "completed": 20,
        "failed": 2,
        "stopped": 1,
        "diverged": 1,
    }
    assert {cell for cell, _ in sweep.made()} == set(range(24))

    code, err = finished(sweep.start(**{"7": "nan"}), 600)
    assert {cell for cell, _ in sweep.made()} == {3, 7, 12, 18}
    assert code == 1 and sweep.states() == {"completed": 23, "diverged": 1}
