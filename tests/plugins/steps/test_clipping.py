"""Gradients above a limit are made as long as it, in their direction; others stay."""

import pytest
import torch
from torch import nn

from kancl.plugins.steps.clipping import GradientClippingPlugin


@pytest.mark.parametrize("per_parameter", [False, True])
def test_a_step_is_as_long_as_the_limit_allows(naive, points_benchmark, per_parameter):
    plain, clipped = nn.Linear(6, 6), nn.Linear(6, 6)
    clipped.load_state_dict(plain.state_dict())
    start = [p.detach().clone() for p in plain.parameters()]
    plugin = GradientClippingPlugin(max_norm=1.0, per_parameter=per_parameter)
    experience, *_ = points_benchmark(n=8).train_stream  # one batch, one step
    for model, plugins in ((plain, []), (clipped, [plugin])):
        naive(model, *plugins, lr=1.0).train(experience)
    moved, wanted = (
        [now - old for now, old in zip(model.parameters(), start)]
        for model in (clipped, plain)
    )
    norms = [step.norm() for step in wanted]
    whole = torch.stack(norms).norm()
    assert min(norms) < 1 < max(norms)  # so that the two ways differ
    for step, full, norm in zip(moved, wanted, norms):
        factor = min(1, 1 / (norm if per_parameter else whole))
        torch.testing.assert_close(step, full * factor, rtol=1e-5, atol=1e-7)


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
