"""Whole runs on a device: the same bytes twice, what they learn, every strategy."""

from itertools import product
from pathlib import Path

import pytest

from kancl.bench.device_steps import why_not_triton
from kancl.bench.harness import finished_run

pytest.importorskip("avalanche", reason="runs are Avalanche's; layers do without it")

from kancl.config import ConfigError  # noqa: E402
from kancl.runner.check import check  # noqa: E402
from kancl.runner.request.compose import read_request  # noqa: E402
from kancl.strategies import STRATEGIES  # noqa: E402

CUT = ["scenario.train_samples=100", "scenario.test_samples=50"]
CUT += ["evaluation.samples=0", "tensorboard=none"]
KINDS = [("class", "single"), ("class", "growing"), ("domain", "single")]
KINDS += [("task", "multi")]
TINY = ["scenario.train_samples=64", "scenario.test_samples=32", "model.hidden=[8]"]
TINY += ["training.batch_size=32", "evaluation.samples=0", "tensorboard=none"]


def summary_of(folder: Path, words: list[str]) -> dict:
    return finished_run([*words, f"log_dir='{folder}'"])


@pytest.mark.parametrize("batch", [64, 256])
@pytest.mark.parametrize("implementation", ["mlp", "auto", "dense", "triton"])
def test_a_run_gives_the_same_bytes_twice(
    implementation: str, batch: int, device: str, small: bool, tmp_path: Path
) -> None:
    if small and (implementation, batch) != ("auto", 64):
        pytest.skip("one of them is enough on a CPU")
    if implementation == "triton" and (why := why_not_triton(device)):
        pytest.skip(why)
    words = ["model=kan", f"model.implementation={implementation}"]
    words = ["model=mlp", "match=params"] if implementation == "mlp" else words
    words += [f"training.batch_size={batch}", f"device={device}"]
    words += CUT if small else []
    first = summary_of(tmp_path / "once", words)
    summary_of(tmp_path / "again", words)
    once, again = (
        path.read_bytes()
        for path in sorted(tmp_path.glob("*/*/*/*/accuracy_matrix.csv"))
    )
    assert once == again
    assert small or first["learning_accuracy"] >= 0.95


@pytest.mark.parametrize(("incremental", "head"), KINDS)
def test_every_strategy_trains(
    incremental: str, head: str, device: str, small: bool, tmp_path: Path
) -> None:
    words = [f"scenario.incremental={incremental}", f"scenario.head={head}", *TINY]
    words += [f"device={device}", f"log_dir='{tmp_path}'"]
    models, names = (["kan"], ["ewc"]) if small else (["kan", "mlp"], list(STRATEGIES))
    trained = []
    for model, strategy in product(models, names):
        said = [*words, f"model={model}", f"strategy={strategy}"]
        try:
            check(read_request(said, sweep=False).configs)
        except ConfigError:  # some go with some heads only
            continue
        finished_run(said)
        trained.append(strategy)
    assert len(trained) >= len(names) * len(models) / 3
