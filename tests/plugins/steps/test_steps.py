"""Steps that leave coefficients, and their optimizer state, alone."""

import pytest
import torch

from kancl.models import KAN
from kancl.models.heads import with_head
from kancl.models.inspect import kan_layers, trainable
from kancl.plugins.penalties.ewc import EWCPlugin
from kancl.plugins.penalties.importances import DriftPenaltyPlugin
from kancl.plugins.steps.frozen import (
    FrozenBasePlugin,
    HardMaskPlugin,
    LazyStepsPlugin,
)
from kancl.runner.registry import OPTIMIZERS

STEPS = {
    "sgd": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1},
    "adam": {"lr": 0.1},
    "adamw": {"lr": 0.1, "weight_decay": 0.5},
}


def network(**options):
    torch.manual_seed(0)
    options = {"base": False, "enable_standalone_scale_spline": False, **options}
    return with_head(KAN([6, 5, 4], 30, 2, grid_range=(-6, 6), **options), "single", 4)


def coefficients(strategy):
    layers = kan_layers(strategy.model).items()
    return {name: layer.coefficients.detach().clone() for name, layer in layers}


def touched(model, benchmark):
    """By layer, bases that some sample of an experience's data reaches."""
    found = {}
    x = torch.stack([x for x, *_ in benchmark])
    for name, layer in kan_layers(model).items():
        found[name] = (layer.b_splines(x) != 0).any(0)
        x = layer(x)
    return found


@pytest.mark.parametrize("name", STEPS)
def test_touched_ones_step_as_usual_and_others_not_at_all(
    name, naive, points_benchmark
):
    """One batch after another whose samples lie elsewhere: the optimizer's memory of
    the first would move what only the first touched.
    """
    first, second = points_benchmark("domain", 2, n=8).train_stream  # a batch each
    ends, states = [], []
    for plugins in ([], [LazyStepsPlugin()]):
        strategy = naive(network(), *plugins)
        strategy.optimizer = OPTIMIZERS[name](
            strategy.model.parameters(), **STEPS[name]
        )
        start = coefficients(strategy)
        where = touched(strategy.model, first.dataset)
        strategy.train(first)
        ends.append(coefficients(strategy))
    for layer, rows in where.items():
        assert 0 < rows.sum() < rows.numel()
        assert torch.equal(ends[1][layer][rows], ends[0][layer][rows])
        assert torch.equal(ends[1][layer][~rows], start[layer][~rows])
    where = touched(strategy.model, second.dataset)
    before = coefficients(strategy)
    for layer in kan_layers(strategy.model).values():
        state = strategy.optimizer.state[layer.coefficients]
        states.append({k: v.clone() for k, v in state.items() if v.ndim == 3})
    strategy.train(second)
    after = coefficients(strategy)
    layers = kan_layers(strategy.model)
    for (layer, rows), state in zip(where.items(), states):
        assert torch.equal(after[layer][~rows], before[layer][~rows])
        assert (after[layer][rows] != before[layer][rows]).any()
        now = strategy.optimizer.state[layers[layer].coefficients]
        assert state
        for key, value in state.items():
            assert torch.equal(now[key][~rows], value[~rows])
            assert not torch.equal(now[key][rows], value[rows])


@pytest.mark.parametrize("momentum, held", [(0.0, 0), (0.9, 2)])
def test_nothing_is_held_where_nothing_could_move_it(
    momentum, held, naive, points_benchmark
):
    """Plain SGD leaves untouched coefficients alone: to look for them costs time only."""
    made = []

    class Counting(LazyStepsPlugin):
        def frozen(self, strategy):
            rows = super().frozen(strategy)
            made.extend([rows] if rows else [])
            return rows

    strategy = naive(network(), Counting())
    strategy.optimizer = torch.optim.SGD(
        strategy.model.parameters(), lr=0.1, momentum=momentum
    )
    for experience in points_benchmark("domain", 2, n=8).train_stream:  # a batch each
        strategy.train(experience)
    assert len(made) == held


def test_a_hard_mask_keeps_one_layer_from_forgetting_anything(naive, points_benchmark):
    first, second = points_benchmark("domain", 2).train_stream
    plugin = HardMaskPlugin(threshold=0)
    torch.manual_seed(0)
    net = KAN([6, 4], 30, 2, base=False, enable_standalone_scale_spline=False)
    strategy = naive(with_head(net, "single", 4), plugin)
    strategy.train(first)
    x = torch.stack([x for x, *_ in first.dataset])
    before, end = strategy.model(x), coefficients(strategy)
    (visited,) = plugin.visited.values()
    assert torch.equal(visited, (net.layers[0].b_splines(x) != 0).any(0))
    free = plugin.free_share["network.layers.0"]
    assert free == 1 - float(visited.double().mean()) and 0 < free < 1
    strategy.train(second)
    assert torch.equal(strategy.model(x), before)
    assert not torch.equal(
        coefficients(strategy)["network.layers.0"], end["network.layers.0"]
    )
    assert plugin.free_share["network.layers.0"] < free  # plasticity dies


def test_base_and_scales_learn_in_the_first_experience_alone(naive, points_benchmark):
    stream = points_benchmark("task", 2).train_stream
    torch.manual_seed(0)
    model = with_head(KAN([6, 5, 4]), "multi", 4)
    plugin = FrozenBasePlugin()
    strategy = naive(model, plugin, EWCPlugin(ewc_lambda=1.0))
    strategy.optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    strategy.train(stream[0])
    first = {n: p.detach().clone() for n, p in model.named_parameters()}
    strategy.train(stream[1])
    now = dict(model.named_parameters())
    moved = {name for name, value in first.items() if not torch.equal(now[name], value)}
    # EWC's penalty and weight decay reach the first head's base too: it stays
    assert moved == {"network.layers.0.coefficients", "heads.0.coefficients"}
    assert {"heads.1.base_weight", "heads.1.edge_scale"} <= plugin.names


def test_drift_penalty_is_the_occupancy_times_the_squared_drift(
    naive, points_benchmark
):
    first, second = points_benchmark("domain", 2).train_stream
    plugin = DriftPenaltyPlugin(drift_lambda=2.0)
    strategy = naive(network(), plugin)
    strategy.train(first)
    x = torch.stack([x for x, *_ in first.dataset])
    layer = strategy.model.network.layers[0]
    with torch.no_grad():
        layer.coefficients += 0.5
    occupancy = layer.b_splines(x).mean(0)
    expected = (0.25 * occupancy).sum() * layer.out_features
    torch.testing.assert_close(
        plugin.anchor.penalty(trainable(strategy.model)), expected
    )


def test_drift_penalty_holds_what_was_used(naive, points_benchmark):
    first, second = points_benchmark("domain", 2).train_stream
    drifts = []
    for strength in (0.0, 10.0):
        plugin = DriftPenaltyPlugin(drift_lambda=strength)
        strategy = naive(network(), plugin)
        strategy.train(first)
        held = plugin.anchor.importance["network.layers.0.coefficients"]
        before = coefficients(strategy)["network.layers.0"]
        strategy.train(second)
        change = coefficients(strategy)["network.layers.0"] - before
        drifts.append(float((held * change.square()).sum()))
    assert drifts[1] < 0.5 * drifts[0]
