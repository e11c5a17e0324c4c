"""How a strategy is put together."""

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.plugins.clock import Clock
from torch import nn

from kancl.benchmarks import split_mnist
from kancl.models import KAN
from kancl.models.heads import with_head
from kancl.plugins.hooks import LazyEvaluationPlugin
from kancl.plugins.loop import TensorLoadingPlugin
from kancl.plugins.penalties.ewc import EWCPlugin
from kancl.plugins.steps.frozen import FrozenBasePlugin, HardMaskPlugin
from kancl.strategies import TrainingSetup, build


@pytest.fixture(scope="module")
def experiences():
    return list(split_mnist(train_samples=20, test_samples=6).train_stream)


def setup(**options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    return TrainingSetup(model, optimizer, batch_size=8, **options)


def test_plugins_stand_in_the_documented_order():
    mine = SupervisedPlugin()
    plugins = build("ewc", setup(plugins=[mine])).plugins
    kinds = [type(plugin) for plugin in plugins]
    assert plugins.index(mine) < kinds.index(EWCPlugin)
    assert kinds.index(EWCPlugin) < kinds.index(TensorLoadingPlugin)
    assert kinds.index(TensorLoadingPlugin) < kinds.index(LazyEvaluationPlugin)
    assert kinds[-1] is Clock


@pytest.mark.parametrize(
    "options, sizes",
    [
        ({"epochs": 2}, 2 * [8, 8, 4]),
        ({"iterations": 5}, 5 * [8]),
        ({"iterations": 5, "epochs": 7}, 5 * [8]),
    ],
)
def test_trains_by_epochs_or_by_exactly_so_many_full_batches(
    options, sizes, experiences
):
    seen = []

    class Spy(SupervisedPlugin):
        def after_forward(self, strategy, **kwargs):
            seen.append(len(strategy.mb_y))

    strategy = build("naive", setup(plugins=[Spy()], **options))
    strategy.train(experiences[0])
    assert seen == sizes


@pytest.mark.parametrize("reset, steps", [(True, [3, 3]), (False, [3, 6])])
def test_optimizer_is_reset_or_kept(reset, steps, experiences):
    strategy = build("naive", setup(reset_optimizer=reset))
    found = []
    for experience in experiences[:2]:
        strategy.train(experience)
        state = strategy.optimizer.state[strategy.model[1].weight]
        found.append(int(state["step"]))
    assert found == steps


def test_evaluating_draws_nothing_from_the_random_stream(experiences):
    strategy = build("naive", setup())
    before = torch.random.get_rng_state()
    strategy.eval(experiences[0])
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("name", ["batch_size", "epochs", "iterations"])
def test_refuses_counts_below_one(name):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        TrainingSetup(model, optimizer, **{name: 0})


@pytest.mark.parametrize(
    "strategy, options",
    [
        ("naive", {}),
        ("occupancy", {}),
        ("gram", {}),
        ("gram", {"structure": "blocks"}),
        ("gram", {"structure": "low_rank", "rank": 8}),
        ("gram_ewc", {"structure": "blocks", "ewc_lambda": 100.0}),
        ("ewc", {"ewc_lambda": 100.0}),
        ("si", {"si_c": 1.0}),
    ],
)
def test_what_is_frozen_stays_whatever_the_strategy_does_to_steps(
    strategy, options, experiences
):
    torch.manual_seed(0)
    network = KAN(
        [784, 6, 10], 1, 1, grid_range=(0, 1), enable_standalone_scale_spline=False
    )
    model = with_head(network, "single", 10)
    mask = HardMaskPlugin()
    setup = TrainingSetup(
        model,
        torch.optim.Adam(model.parameters(), lr=0.01),
        batch_size=8,
        plugins=[FrozenBasePlugin(), mask],
    )
    learner = build(strategy, setup, **options)
    learner.train(experiences[0])
    frozen = {name: rows.clone() for name, rows in mask.visited.items()}
    first = {name: p.detach().clone() for name, p in model.named_parameters()}
    learner.train(experiences[1])
    moved = set()
    for name, now in model.named_parameters():
        layer, _, kind = name.rpartition(".")
        if kind == "base_weight":
            assert torch.equal(now, first[name]), name
        else:
            assert torch.equal(now[frozen[layer]], first[name][frozen[layer]]), name
            moved |= {name} if not torch.equal(now, first[name]) else set()
    assert moved  # what is free still learns
