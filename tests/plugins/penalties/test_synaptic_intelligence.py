"""SI's importances against the path written out; Avalanche's, which are 0."""

import pytest
import torch
from avalanche.training.plugins import (
    SynapticIntelligencePlugin as StockSynapticIntelligencePlugin,
)
from torch import nn

from kancl.plugins.penalties.importances import (
    SynapticIntelligencePlugin,
)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 6))


def test_with_plain_sgd_the_path_is_the_sum_of_squared_steps(points_benchmark, naive):
    """There g = -dtheta / lr, so omega = sum dtheta^2 / lr."""
    steps = []

    class Spy(SynapticIntelligencePlugin):
        def after_update(self, strategy, **kwargs):
            super().after_update(strategy, **kwargs)
            steps.append([p.detach().clone() for p in strategy.model.parameters()])

    plugin = Spy(si_c=0.0, damping=0.1)
    strategy = naive(network(), plugin)
    start = [p.detach().clone() for p in strategy.model.parameters()]
    expected = [torch.zeros_like(p) for p in start]
    for experience in list(points_benchmark().train_stream)[:2]:
        steps.clear()
        strategy.train(experience)
        walk = [start, *steps]
        for i, total in enumerate(expected):
            moved = sum((b[i] - a[i]) ** 2 for a, b in zip(walk, walk[1:]))
            total += moved / 0.1 / ((walk[-1][i] - start[i]) ** 2 + 0.1)
        start = walk[-1]
    found = list(plugin.anchor.importance.values())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)
    assert torch.equal(plugin.anchor.centre["0.weight"], strategy.model[0].weight)


def test_penalty_has_no_half(points_benchmark, naive):
    plugin = SynapticIntelligencePlugin(si_c=3.0)
    strategy = naive(network(), plugin)
    strategy.train(points_benchmark().train_stream[0])
    omega = plugin.anchor.importance
    assert max(o.max() for o in omega.values()) > 0
    with torch.no_grad():
        for p in strategy.model.parameters():
            p += 0.5
    strategy.loss = torch.zeros(1)
    plugin.before_backward(strategy)
    expected = 3.0 * 0.25 * sum(o.sum() for o in omega.values())
    torch.testing.assert_close(strategy.loss, expected[None])


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # in stock
def test_differs_from_naive_where_stock_is_naive_to_the_bit(points_benchmark, naive):
    """The stock half fails once Avalanche copies its weights: then compare with it."""

    def parameters_after(*plugins):
        strategy = naive(network(), *plugins)
        strategy.train(list(points_benchmark().train_stream))
        return torch.cat([p.flatten() for p in strategy.model.parameters()])

    without = parameters_after()
    assert not torch.allclose(
        without, parameters_after(SynapticIntelligencePlugin(si_c=5.0)), atol=1e-3
    )
    stock = StockSynapticIntelligencePlugin(si_lambda=1e4)
    assert torch.equal(without, parameters_after(stock))
    # its importances are what it adds to 0
    assert all(not d.data.any() for d in stock.ewc_data[1].values())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"si_c": -0.1}, "si_c must be at least 0, not -0.1"),
        ({"si_c": 1.0, "damping": 0.0}, "damping must be above 0"),
    ],
)
def test_refuses_what_is_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        SynapticIntelligencePlugin(**options)
