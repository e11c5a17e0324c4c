"""Gradients above a limit are made as long as it, in their direction; others stay."""

import pytest
import torch
from torch import nn

from kancl.plugins.steps.clipping import GradientClippingPlugin


@pytest.mark.parametrize("per_layer", [False, True])
def test_a_step_is_as_long_as_the_limit_allows(naive, points_benchmark, per_layer):
    """A layer's weights and bias are one vector, whose direction stays."""
    plain, clipped = (nn.Sequential(nn.Linear(6, 9), nn.Linear(9, 6)) for _ in range(2))
    clipped.load_state_dict(plain.state_dict())
    start = [p.detach().clone() for p in plain.parameters()]
    experience, *_ = points_benchmark(n=8).train_stream  # one batch, one step
    steps = []
    for model, limit in ((plain, 1e6), (clipped, 0.4)):
        plugin = GradientClippingPlugin(max_norm=limit, per_layer=per_layer)
        naive(model, plugin, lr=1.0).train(experience)
        flat = [(p - old).flatten() for p, old in zip(model.parameters(), start)]
        layers = [torch.cat(flat[:2]), torch.cat(flat[2:])]
        steps.append(layers if per_layer else [torch.cat(layers)])
    for full, step in zip(*steps):
        assert full.norm() > 0.4
        torch.testing.assert_close(step, full * 0.4 / full.norm(), rtol=1e-4, atol=1e-7)


def test_a_limit_that_is_never_reached_changes_no_bit(naive, points_benchmark):
    ends = []
    for plugins in ([], [GradientClippingPlugin(max_norm=1e6)]):
        torch.manual_seed(0)
        model = nn.Linear(6, 6)
        strategy = naive(model, *plugins)
        for experience in points_benchmark().train_stream:
            strategy.train(experience)
        ends.append(model.weight.detach())
    assert torch.equal(*ends)
