"""A state goes into a fresh run, or is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from kancl.benchmarks import Benchmark, split_mnist
from kancl.models import MLP
from kancl.models.heads import with_head
from kancl.runner.checkpoint import Unresumable, World
from kancl.runner.checkpoint.files import pack, unpack
from kancl.runner.checkpoint.retraced import Retraced, RetracedLoader
from kancl.strategies import STRATEGIES, TrainingSetup

State = dict[str, Any]


@pytest.fixture(scope="module")
def benchmark() -> Benchmark:
    return split_mnist(train_samples=16, test_samples=4)


def fresh(benchmark: Benchmark, seed: int) -> World:
    torch.manual_seed(seed)
    network = with_head(MLP([784, 3, 10]), "growing", 10)
    setup = TrainingSetup(
        network, torch.optim.Adam(network.parameters()), batch_size=8, iterations=2
    )
    return World(STRATEGIES["ewc_replay"](setup, mem_size=6), benchmark)


@pytest.fixture(scope="module")
def state(benchmark: Benchmark) -> State:
    """After one experience: a head, moments, importances and exemplars."""
    world = fresh(benchmark, 0)
    world.strategy.train(benchmark.train_stream[0])
    return unpack(pack(world.state()))


def test_a_state_goes_into_a_fresh_run_and_out_again(
    benchmark: Benchmark, state: State
) -> None:
    world = fresh(benchmark, 1)
    world.restore(state)
    assert pack(world.state()) == pack(state)


def _plugins(state: State) -> State:
    plugins: State = state["plugins"]
    return plugins


def _first(state: State) -> str:
    return next(iter(_plugins(state)))


WRONG: dict[str, Callable[[State], object]] = {
    "no model": lambda s: s.pop("model"),
    "another shape": lambda s: s["model"]["state"].update(
        {"network.layers.0.weight": torch.zeros(2)}
    ),
    "another plugin": lambda s: _plugins(s).update(other=None),
    "no kind": lambda s: _plugins(s).update({_first(s): []}),
    "a method's name": lambda s: _plugins(s).update({_first(s): ["_class__", 1]}),
    "an unlisted class": lambda s: s["strategy"].append(
        ["x", ["object", 999, "Popen", [["args", "ls"]]]]
    ),
    "an unlisted function": lambda s: s["strategy"].append(
        ["x", ["function", "system"]]
    ),
    "what comes later": lambda s: s["strategy"].append(["x", ["same", 10**6]]),
    "a foreign experience": lambda s: s["strategy"].append(
        ["x", ["experience", "train", 99]]
    ),
    "an iterator": lambda s: s["strategy"].append(["x", ["retraced", 9, 3, []]]),
    "no state": lambda s: s.clear(),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_state_that_does_not_fit_is_refused(
    benchmark: Benchmark, state: State, kind: str
) -> None:
    wrong = copy.deepcopy(state)
    WRONG[kind](wrong)
    with pytest.raises(Unresumable):
        fresh(benchmark, 1).restore(wrong)


def test_a_live_iterator_in_a_plugin_cannot_be_kept(benchmark: Benchmark) -> None:
    world = fresh(benchmark, 0)
    world.plugins[1].batches = iter([1, 2])
    with pytest.raises(Unresumable, match="batches is an iterator"):
        world.state()


class Shuffled:
    """Draws before its first item, and in its midst."""

    def __iter__(self) -> Any:
        for _ in range(3):
            yield from torch.randperm(4).tolist()


@pytest.mark.parametrize("position", range(12))
def test_an_iterator_is_taken_back_to_where_it_was(position: int) -> None:
    torch.manual_seed(0)
    whole = list(Retraced(Shuffled()))
    torch.manual_seed(0)
    items = Retraced(Shuffled())
    begun = [next(items) for _ in range(position)]
    state = torch.get_rng_state()
    torch.manual_seed(99)  # another process
    loader = RetracedLoader(Shuffled())
    loader.take_up(position, items.draws, lambda: torch.set_rng_state(state))
    assert begun + list(loader) == whole
    assert loader.running is not None and loader.running.position == 12
