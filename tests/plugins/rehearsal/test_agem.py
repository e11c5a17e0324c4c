"""A-GEM's projection written out; where Avalanche's fails."""

import pytest
import torch
from avalanche.training.plugins import AGEMPlugin as StockAGEMPlugin
from torch import nn

from kancl.plugins.rehearsal.replay import AGEMPlugin


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 6))


def flat(gradients):
    return torch.cat([g.flatten() for g in gradients])


def test_gradient_is_projected_only_against_the_past(points_benchmark, naive):
    """The memory fits in one draw, so its gradient is known."""
    projected = []

    class Spy(AGEMPlugin):
        def after_backward(self, strategy, **kwargs):
            parameters = list(strategy.model.parameters())
            g = flat(p.grad for p in parameters)
            super().after_backward(strategy, **kwargs)
            found = flat(p.grad for p in parameters)
            if not self.n_kept:
                assert torch.equal(found, g)
                return
            x, y, _ = self.draw(strategy, 6)
            loss = nn.functional.cross_entropy(strategy.model(x), y)
            reference = flat(torch.autograd.grad(loss, parameters))
            expected, along = g, g @ reference
            if along < 0:
                expected = g - along / (reference @ reference) * reference
                assert found @ reference == pytest.approx(0, abs=1e-6)
            projected.append(bool(along < 0))
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)

    strategy = naive(network(), Spy(mem_size=6, replay_batch_size=6), lr=0.5)
    for experience in points_benchmark(n=64).train_stream:
        strategy.train(experience)
    assert len(projected) == 16 and 0 < sum(projected)


def test_more_experiences_than_exemplars_per_batch(points_benchmark, naive):
    """The stock half fails once Avalanche draws a sample smaller than its past."""
    stream = list(points_benchmark(n_experiences=4, n=8).train_stream)
    stock = StockAGEMPlugin(patterns_per_experience=4, sample_size=2)
    model = nn.Linear(6, 8)
    with pytest.raises(ValueError):
        naive(model, stock).train(stream)
    strategy = naive(nn.Linear(6, 8), AGEMPlugin(mem_size=8, replay_batch_size=2))
    strategy.train(stream)


def test_refuses_an_empty_batch():
    with pytest.raises(ValueError, match="replay_batch_size must be at least 1, not 0"):
        AGEMPlugin(mem_size=6, replay_batch_size=0)
