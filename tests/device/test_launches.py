"""Launches and waits of a training iteration, counted on the pretend device.

``pytest -n0 -q -m proof tests/device/test_launches.py -k budget`` prints, for every strategy,
head and model (mlp, kan, kan_local), launches / waits and blocking copies; they are the same
at batches of 64 and 1,024.

Iterations differ: one uploads an epoch's order, one adds up 1,024 samples' features, one
projects a gradient. So an iteration is counted that does all that any does (``Log.most``).
"""

from collections import Counter
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
import torch

from kancl import KANLinear
from kancl.bench.harness import finished_run
from kancl.config import ConfigError
from kancl.models import readouts
from kancl.runner.check import check
from kancl.runner.request.compose import read_request
from kancl.splines import gpu
from kancl.strategies import STRATEGIES
from tests.device.pretend_device import Log, pretend_device

MODELS = {"mlp": "hidden=[16,16]", "kan": "hidden=[16]", "kan_local": "hidden=[16]"}
HEADS = {"single": "class", "growing": "class", "multi": "task"}
BATCHES = 64, 1024
CUT = ["scenario.n_experiences=2", "scenario.test_samples=20", "evaluation.samples=5"]
CUT += ["tensorboard=none", "device=cuda"]
MEMORY = {"replay", "agem", "mir", "er_ace", "der", "gdumb"}


class Counts(NamedTuple):
    """What an iteration takes that does all that any of the last experience but the first does."""

    launches: int
    waits: int
    copies: int
    mixing: int  # in the whole run
    places: frozenset[tuple[str, str]]  # of waits and copies, in all iterations
    most: Counter[
        tuple[str, str, str]
    ]  # by kind, operator, place; of the first as well


def epoch(batch: int) -> int:
    """Iterations: an even number, as of a memory of two batches, of which the order is
    drawn anew when it is used up; and as many samples as a readout adds up at a time.
    """
    return max(4, readouts.BATCH // batch)


def words(
    strategy: str = "naive", model: str = "kan", head: str = "single", batch: int = 64
) -> list[str]:
    said = [f"strategy={strategy}", f"model={model}", f"model.{MODELS[model]}"]
    said += [f"scenario.head={head}", f"scenario.incremental={HEADS[head]}", *CUT]
    said += [f"training.batch_size={batch}", f"training.iterations={epoch(batch) + 1}"]
    said.append(f"scenario.train_samples={epoch(batch) * batch}")  # of each experience
    if strategy.startswith("gram") and model != "mlp":
        said.append("strategy.structure=blocks")  # a full matrix takes a CPU minutes
    if strategy == "grow_grids":  # between experiences; the pretend device can't follow
        said.append("strategy.off_grid=1")
    if strategy in MEMORY:
        said.append(f"strategy.mem_size={2 * batch}")
    if strategy == "mir":
        said.append(f"strategy.candidates={2 * batch}")
    return said


def run_on_pretend_device(said: list[str]) -> Log:
    with TemporaryDirectory() as folder, pretend_device() as log:
        finished_run([f"log_dir={folder!r}", *said])
    return log


@cache
def counted(
    strategy: str = "naive", model: str = "kan", head: str = "single", batch: int = 64
) -> Counts:
    log = run_on_pretend_device(words(strategy, model, head, batch))
    later = log.most(skip=1)
    kinds = "launch", "wait", "copy"
    each = (sum(n for key, n in later.items() if key[0] == kind) for kind in kinds)
    places = frozenset(log.places("wait", "copy", phase="iteration"))
    return Counts(*each, log.total("mixing"), places, log.most())


def function(place: str) -> tuple[str, str]:
    """The file's name and the function's."""
    file, _, rest = place.partition(":")
    return file.split("/")[-1], rest.split()[-1]


def goes_together(strategy: str, model: str, head: str) -> bool:
    said = [w for w in words(strategy, model, head) if not w.startswith("device=")]
    try:
        check(read_request(said, sweep=False).configs)
    except ConfigError:
        return False
    return True


def test_a_kan_takes_hardly_more_launches_than_an_mlp_at_every_batch() -> None:
    mlp, kan, large = counted(model="mlp"), counted(), counted(batch=1024)
    local = counted(model="kan_local")
    assert kan.launches <= 1.3 * mlp.launches and local.launches <= 2 * mlp.launches
    assert kan.most == large.most
    for found in (kan, local):
        assert (found.waits, found.copies, found.mixing) == (0, 0, 0)


def test_without_fused_kernels_a_kan_takes_four_times_as_many() -> None:
    said = [*words(batch=128), "model.implementation=dense"]
    dense = run_on_pretend_device(said).per_iteration("launch")[-1]
    assert dense <= 4 * counted(model="mlp").launches


@pytest.mark.parametrize("strategy", "naive ewc si mas lwf replay gram".split())
def test_nothing_is_waited_for_inside_an_epoch(strategy: str) -> None:
    found = counted(strategy, "mlp")
    assert (found.waits, found.copies, found.mixing) == (0, 0, 0)


def test_losses_and_scores_are_read_every_50_iterations(tmp_path: Path) -> None:
    said = [*words(model="mlp", batch=8), "training.iterations=101"]
    log = run_on_pretend_device([*said, "scenario.train_samples=40"])
    (read,) = log.places("wait", "copy", phase="iteration")
    assert "recorder.py" in read[1] and "_write_batches" in read[1]
    waiting = log.per_iteration("wait", "copy")
    experience = [0] * 49 + [1] + [0] * 49 + [1] + [0]
    assert waiting == 2 * experience


def test_what_goes_wrong_on_a_card_is_seen() -> None:
    with pretend_device() as log:
        x = torch.rand(4, 3, device="cuda")
        with pytest.raises(TypeError, match="cpu"):
            x.numpy()
        assert x.device == torch.device("cuda", 0) and x.cpu().device.type == "cpu"
        assert log.total("copy") == 1
        x[x > 0.5]  # how many there are is read
        assert log.total("wait") == 1
        assert float(x.sum()) > 0 and log.total("wait") == 2
        x[:, [0, 2]]  # the list becomes a tensor, here, and is copied there
        assert log.total("copy") == 2
        torch.tensor([1.0, 2.0], device="cuda")
        assert log.total("copy") == 3 and log.total("mixing") == 0
        x + torch.ones(4, 3)
        layer = KANLinear(3, 2, implementation="triton").to("cuda")
        samples = gpu.prepare(x, layer.spline_grid._closed)
        gpu.input_gradient(samples, layer.coefficients, None, None, torch.rand(4, 2))
    mixed = log.places("mixing")
    assert sorted(what for what, _ in mixed) == ["add", "input_gradient"]


def test_a_run_on_the_pretend_device_is_the_run_on_a_cpu(tmp_path: Path) -> None:
    """So that what is counted is what a run does."""
    said = [*words(), "evaluation.samples=0", "scenario.test_samples=200"]
    said += ["keep_model=true", "optimizer=sgd", "optimizer.lr=0.01"]
    networks = []
    for device in ("cuda", "cpu"):
        own = [*said, f"device={device}", f"log_dir='{tmp_path / device}'"]
        with pretend_device():
            finished_run(own)
        (path,) = (tmp_path / device).rglob("model.pt")
        networks.append(torch.load(path))
    for name, found in networks[0].items():
        torch.testing.assert_close(found, networks[1][name], rtol=1e-3, atol=1e-5)


# Where an iteration may wait or block, and why.
ALLOWED = {
    ("recorder.py", "_write_batches"): "losses and scores, every 50 iterations",
    ("present_classes.py", "_of_present_classes"): "how many classes a batch has",
    ("replay.py", "_total"): "whether A-GEM projects, and how far",
    ("lwf.py", "_columns"): "classes as an index, once per experience",
    ("heads.py", "_only_label"): "whose head it is, once per experience",
    ("dynamic_modules.py", "forward"): "heads of several tasks in a batch: Avalanche's",
    ("base_sgd.py", "backward"): "the same",
    ("replay.py", "after_backward"): "the same, back through A-GEM's kept samples",
    ("ewc.py", "before_backward"): "Avalanche's EWC, as it is",
    ("gem.py", "before_training_iteration"): "Avalanche's GEM, as it is",
    ("gem.py", "after_backward"): "the same",
    ("gem.py", "solve_quadprog"): "the same",
    ("knots.py", "is_uniform"): "whether a grid is even, once after it was written",
    ("owm.py", "observe"): "whether a matrix can be inverted",
}

# Whether gradients disagree hangs on the data: where these project at one batch size alone,
# what is done at the other is a part of it.
PROJECTING = "agem", "gem"
# Launches to an MLP's.
CEILING = {"mlp": 1.0, "kan": 1.3, "kan_local": 2.0}
# An MLP's features are the inputs here, a KAN's are bases, which no fused kernel gives.
OF_FEATURES = {"nearest_mean": 2.5}


@pytest.mark.proof
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_keeps_its_budget(
    strategy: str, head: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cells, mlp = {}, None
    for model in MODELS:
        if not goes_together(strategy, model, head):
            continue
        small, large = (counted(strategy, model, head, batch) for batch in BATCHES)
        cells[model] = f"{small.launches} / {small.waits + small.copies}"
        assert small.most == large.most or (
            strategy in PROJECTING
            and (small.most < large.most or large.most < small.most)
        ), model
        assert small.launches and not small.mixing and not large.mixing, model
        for what, place in small.places | large.places:
            assert function(place) in ALLOWED, (what, place)
        mlp = mlp or (small if model == "mlp" else None)
        if mlp is not None:
            most = OF_FEATURES.get(strategy, CEILING[model]) * mlp.launches
            assert small.launches <= most, (model, small, mlp)
    with capsys.disabled():
        print(f"{strategy:14} {head:8}", *(f"{cells.get(m, ''):>10}" for m in MODELS))
