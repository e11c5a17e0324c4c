"""A state goes into a fresh run, or is refused."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin

from kancl.benchmarks import Benchmark, split_mnist
from kancl.models import MLP
from kancl.models.heads import with_head
from kancl.plugins import Plugin
from kancl.runner.checkpoint import LiveRun, Unresumable
from kancl.runner.checkpoint.plugin import ReplayableIterator, ReplayableLoader
from kancl.runs.checkpoints import pack, unpack
from kancl.strategies import TrainingSetup, build

State = dict[str, Any]


@pytest.fixture(scope="module")
def benchmark() -> Benchmark:
    return split_mnist(train_samples=16, test_samples=4)


def fresh(benchmark: Benchmark, seed: int, *plugins: SupervisedPlugin) -> LiveRun:
    torch.manual_seed(seed)
    network = with_head(MLP([784, 3, 10]), "growing", 10)
    setup = TrainingSetup(
        network,
        torch.optim.Adam(network.parameters()),
        batch_size=8,
        iterations=2,
        plugins=plugins,
    )
    return LiveRun(build("ewc+lwf+replay", setup, mem_size=6), benchmark)


@pytest.fixture(scope="module")
def state(benchmark: Benchmark) -> State:
    """After one experience: a head, moments, importances, a teacher and exemplars."""
    live = fresh(benchmark, 0)
    live.strategy.train(benchmark.train_stream[0])
    return unpack(io.BytesIO(pack(live.state())))


def test_a_state_goes_into_a_fresh_run_and_out_again(
    benchmark: Benchmark, state: State
) -> None:
    live = fresh(benchmark, 1)
    live.restore(state)
    assert pack(live.state()) == pack(state)


def test_a_state_reads_like_what_it_is(state: State) -> None:
    """What a reader finds: network, optimizer, random streams, each plugin by name."""
    assert set(state) == {"model", "optimizer", "strategy", "plugins", "random"}
    ewc = next(s for key, s in state["plugins"].items() if "EWCPlugin" in key)
    assert set(ewc) == {"anchor", "_generator"}
    assert set(ewc["anchor"]) == {"importance", "centre", "constant"}
    clock = next(s for key, s in state["plugins"].items() if "Clock" in key)
    assert clock["train_iterations"] == 2 and clock["train_exp_counter"] == 1


def _plugins(state: State) -> State:
    plugins: State = state["plugins"]
    return plugins


def _named(state: State, name: str) -> State:
    found: State = next(s for key, s in _plugins(state).items() if name in key)
    return found


WRONG: dict[str, Callable[[State], object]] = {
    "no model": lambda s: s.pop("model"),
    "another shape": lambda s: s["model"]["state"].update(
        {"network.layers.0.weight": torch.zeros(2)}
    ),
    "another plugin": lambda s: _plugins(s).update(other=None),
    "a plugin of no kind": lambda s: _named(s, "EWC").update(anchor=7),
    "a plugin's part is missing": lambda s: _named(s, "EWC").clear(),
    "an attribute that the network has not": lambda s: s["model"]["attributes"][
        ""
    ].update(__class__="Popen"),
    "a parameter that there is not": lambda s: s["optimizer"]["order"][0].append("x"),
    "a foreign experience": lambda s: _named(s, "Replay")["exemplars"]["groups"].update(
        {(0, 99): {"max_size": 1, "samples": {"$samples": {"parts": [["train", 99]]}}}}
    ),
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
    plugin = SupervisedPlugin()
    live = fresh(benchmark, 0, plugin)
    plugin.batches = iter([1, 2])
    with pytest.raises(Unresumable, match="batches is an iterator"):
        live.state()


def test_what_training_adds_without_declaring_it_is_not_lost_silently(
    benchmark: Benchmark,
) -> None:
    class Growing(Plugin):
        """Notes how many experiences began, and tells nobody."""

        def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
            self.begun = getattr(self, "begun", 0) + 1

    live = fresh(benchmark, 0, Growing())
    live.state()
    live.strategy.train(benchmark.train_stream[0])
    with pytest.raises(Unresumable, match="Growing keeps begun and declares it"):
        live.state()


@pytest.mark.parametrize("declared", [False, True])
def test_an_argument_that_training_changes_is_declared_or_said(
    benchmark: Benchmark, declared: bool
) -> None:
    class Fading(Plugin):
        """Halves its own argument at each experience."""

        state = ("rate",) * declared

        def __init__(self, *, rate: float = 1.0) -> None:
            super().__init__()
            self.rate = rate

        def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
            self.rate /= 2

    live = fresh(benchmark, 0, Fading())
    live.strategy.train(benchmark.train_stream[0])
    if not declared:
        with pytest.raises(
            Unresumable, match="Fading.rate is an argument that training"
        ):
            live.state()
        return
    kept, other = unpack(io.BytesIO(pack(live.state()))), Fading()
    fresh(benchmark, 1, other).restore(kept)
    assert other.rate == 0.5


class Foreign(SupervisedPlugin):
    """A plugin of another library: a counter, a tensor and a set, all undeclared."""

    def __init__(self) -> None:
        super().__init__()
        self.n, self.total, self.seen = 0, torch.zeros(3), {0}

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.n += 1
        self.total = self.total + strategy.loss.detach()
        self.seen.add(self.n)


class Declaring(Plugin):
    """A plugin that declares a counter, a tensor and a random generator."""

    state = ("n", "total", "generator")

    def __init__(self) -> None:
        super().__init__()
        self.n, self.total = 0, torch.zeros(3)
        self.generator = torch.Generator()

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.n += 1
        self.total += torch.rand(3, generator=self.generator)


@pytest.mark.parametrize("kind", [Foreign, Declaring])
def test_plugins_of_a_users_own_are_kept_whole(
    benchmark: Benchmark, kind: type[SupervisedPlugin]
) -> None:
    plugin: Any = kind()
    live = fresh(benchmark, 0, plugin)
    live.strategy.train(benchmark.train_stream[0])
    kept = unpack(io.BytesIO(pack(live.state())))
    other: Any = kind()
    fresh(benchmark, 1, other).restore(kept)
    assert other.n == plugin.n == 2
    assert torch.equal(other.total, plugin.total)
    if isinstance(plugin, Foreign):
        assert other.seen == {0, 1, 2}
    else:
        draws = [torch.rand(2, generator=p.generator) for p in (plugin, other)]
        assert torch.equal(*draws)


class Shuffled:
    """Draws before its first item, and in its midst."""

    def __iter__(self) -> Any:
        for _ in range(3):
            yield from torch.randperm(4).tolist()


@pytest.mark.parametrize("position", range(12))
def test_an_iterator_is_taken_back_to_where_it_was(position: int) -> None:
    torch.manual_seed(0)
    whole = list(ReplayableIterator(Shuffled()))
    torch.manual_seed(0)
    items = ReplayableIterator(Shuffled())
    begun = [next(items) for _ in range(position)]
    state = torch.get_rng_state()
    torch.manual_seed(99)  # another process
    loader = ReplayableLoader(Shuffled())
    loader.resume(items.state_dict(), lambda: torch.set_rng_state(state))
    assert begun + list(loader) == whole
    assert loader.running is not None and loader.running.position == 12
