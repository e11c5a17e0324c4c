"""What evaluations and experience boundaries leave of the loop's state."""

import pytest
import torch
from torch import nn

from kancl.models import KAN
from kancl.models.heads import with_head
from kancl.plugins.loop import OptimizerStatePlugin, QuietEvaluationPlugin


def steps_at_the_first_update(strategy, stream):
    """Adam's step count of the first layer after the first update of each experience."""
    found = []

    class Spy(OptimizerStatePlugin):
        def after_update(self, strategy, **kwargs):
            if strategy.clock.train_exp_iterations == 0:
                parameter = next(strategy.model.parameters())
                found.append(int(strategy.optimizer.state[parameter]["step"]))

    strategy.plugins.insert(0, Spy(reset=False))
    for experience in stream:
        strategy.train(experience)
    return found


@pytest.mark.parametrize("reset, expected", [(True, [1, 1, 1]), (False, [1, 4, 7])])
@pytest.mark.parametrize("kind", ["single", "growing", "multi"])
def test_state_is_reset_or_kept(kind, reset, expected, points_benchmark, naive):
    incremental = "task" if kind == "multi" else "class"
    stream = list(points_benchmark(incremental).train_stream)  # 3 batches of 8 each
    n_outputs = 2 if kind == "multi" else 6
    model = with_head(KAN([6, 5, n_outputs]), kind, n_outputs)
    strategy = naive(model, OptimizerStatePlugin(reset=reset))
    strategy.optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    assert steps_at_the_first_update(strategy, stream) == expected
    optimized = {id(p) for p in strategy.optimizer.param_groups[0]["params"]}
    assert optimized == {id(p) for p in model.parameters()}


def test_random_state_is_put_back_as_stock_does_not(points_benchmark, naive):
    experience = points_benchmark().test_stream[0]
    states = []
    for plugins in ([QuietEvaluationPlugin()], []):
        strategy = naive(nn.Linear(6, 6), *plugins)
        before = torch.random.get_rng_state()
        strategy.eval(experience)
        states.append(torch.equal(before, torch.random.get_rng_state()))
    assert states == [True, False]
