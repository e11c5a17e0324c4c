"""Rates as they are at every update: falling within an experience, or over experiences."""

import pytest
from avalanche.training.plugins import SupervisedPlugin
from torch import nn

from kancl.plugins.loop import (
    ExperienceDecayPlugin,
    LinearDecayPlugin,
)


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
