"""Rates as they are at every update: falling within an experience, or over experiences."""

import pytest
import torch
from avalanche.training.plugins import (
    EarlyStoppingPlugin,
    LRSchedulerPlugin,
    SupervisedPlugin,
)
from torch import nn

from kancl.models.heads import with_head
from kancl.plugins.loop import (
    ExperienceDecayPlugin,
    LinearDecayPlugin,
)
from kancl.strategies import TrainingSetup, build


class Rates(SupervisedPlugin):
    def __init__(self):
        super().__init__()
        self.seen = []

    def after_update(self, strategy, **kwargs):
        (group,) = strategy.optimizer.param_groups
        self.seen.append(group["lr"])


def rates(benchmark, naive, *plugins):
    """At each of the 3 x 3 updates."""
    spy = Rates()
    strategy = naive(nn.Linear(6, 6), *plugins, spy)
    (group,) = strategy.optimizer.param_groups
    group["lr"] = 0.4
    for experience in benchmark.train_stream:  # 3 batches of 8 each
        strategy.train(experience)
    return spy.seen


def test_the_rate_is_multiplied_after_each_experience(points_benchmark, naive):
    found = rates(points_benchmark(), naive, ExperienceDecayPlugin(gamma=0.5))
    assert found == pytest.approx([0.4] * 3 + [0.2] * 3 + [0.1] * 3)


def test_both_kinds_of_falling_go_together(points_benchmark, naive):
    plugins = LinearDecayPlugin(), ExperienceDecayPlugin(gamma=0.5)
    found = rates(points_benchmark(), naive, *plugins)
    falling = [1, 2 / 3, 1 / 3]
    expected = [full * share for full in (0.4, 0.2, 0.1) for share in falling]
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("gamma", [0.0, 1.5])
def test_a_rate_that_vanishes_or_grows_is_refused(gamma):
    with pytest.raises(ValueError, match=f"not {gamma}"):
        ExperienceDecayPlugin(gamma=gamma)


def with_stock(*make):
    """A strategy of kancl's with stock plugins over its optimizer."""
    model = with_head(nn.Linear(6, 6), "single", 6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.4)
    setup = TrainingSetup(model, optimizer, batch_size=8, epochs=3)
    setup.plugins = [*(each(optimizer) for each in make)]
    return build("naive", setup)


def test_avalanches_scheduler_works(points_benchmark):
    schedule = torch.optim.lr_scheduler.StepLR
    strategy = with_stock(
        lambda optimizer: LRSchedulerPlugin(schedule(optimizer, 1, gamma=0.5)),
        lambda optimizer: Rates(),
    )
    for experience in points_benchmark().train_stream:
        strategy.train(experience)
    (spy,) = (p for p in strategy.plugins if isinstance(p, Rates))
    expected = [full for full in (0.4, 0.2, 0.1) for _ in range(3)]
    assert spy.seen == pytest.approx(3 * expected)


# Avalanche's own mean takes the loss with its graph
@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
def test_avalanches_plateau_sees_the_training_loss(points_benchmark):
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau
    strategy = with_stock(
        lambda optimizer: LRSchedulerPlugin(
            plateau(optimizer, "min", 0.5, 0, threshold=1e9, threshold_mode="abs"),
            metric="train_loss",
        ),
        lambda optimizer: Rates(),
    )
    strategy.train(points_benchmark().train_stream[0])
    (spy,) = (p for p in strategy.plugins if isinstance(p, Rates))
    assert spy.seen == pytest.approx([0.4] * 6 + [0.2] * 3)


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda optimizer: EarlyStoppingPlugin(1, "valid_stream"),
            "EarlyStoppingPlugin waits for .*use training.early_stopping .* instead",
        ),
        (
            lambda optimizer: LRSchedulerPlugin(
                torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer), metric="val_loss"
            ),
            "LRSchedulerPlugin waits for .*use metric='train_loss'.* instead",
        ),
    ],
)
def test_stock_plugins_that_would_wait_for_ever_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        with_stock(make)
