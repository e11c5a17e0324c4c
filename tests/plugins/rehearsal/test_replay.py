"""The loss that replay trains on, and what it remembers by it."""

import pytest
import torch
from torch import nn

from kancl.data.rows import as_tensors
from kancl.plugins.rehearsal.replay import ReplayPlugin


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 6))


@pytest.mark.parametrize("weighting, share", [("images", 8 / 14), ("experiences", 0.5)])
def test_loss_is_the_weighted_sum_of_current_and_replayed(
    weighting, share, points_benchmark, naive
):
    seen = []

    class Spy(ReplayPlugin):
        def before_backward(self, strategy, **kwargs):
            strategy.loss += 0.25  # another plugin's penalty
            super().before_backward(strategy, **kwargs)
            seen.append((strategy.loss.item(), strategy.mb_output, strategy.mb_y))

    plugin = Spy(mem_size=6, replay_batch_size=6, weighting=weighting)
    strategy = naive(network(), plugin, lr=0.0)  # frozen weights
    first, second = list(points_benchmark().train_stream)[:2]
    strategy.train(first)
    for loss, output, y in seen:  # no memory yet
        expected = nn.functional.cross_entropy(output, y).item() + 0.25
        assert loss == pytest.approx(expected)
    x, y, _ = as_tensors(plugin.exemplars.buffer)
    replayed = nn.functional.cross_entropy(strategy.model(x), y).item()
    seen.clear()
    strategy.train(second)
    for loss, output, y in seen:
        current = nn.functional.cross_entropy(output, y).item()
        expected = share * current + (1 - share) * replayed + 0.25
        assert loss == pytest.approx(expected, rel=1e-5)
    assert plugin.n_kept == 6


def test_remembers_what_naive_forgets(points_benchmark, naive):
    def accuracy(*plugins):
        strategy = naive(network(), *plugins, lr=0.3)
        for experience in points_benchmark(n=160).train_stream:
            strategy.train(experience)
        x, y, _ = as_tensors(points_benchmark(n=160).test_stream[0].dataset)
        return (strategy.model(x).argmax(1) == y).float().mean()

    assert accuracy() < 0.3
    assert accuracy(ReplayPlugin(mem_per_class=10)) > 0.6


@pytest.mark.parametrize(
    "options, message",
    [
        ({"replay_batch_size": 0}, "replay_batch_size must be at least 1, not 0"),
        ({"weighting": "equal"}, "weighting=equal is not one of images, experiences"),
    ],
)
def test_refuses_options(options, message):
    with pytest.raises(ValueError, match=message):
        ReplayPlugin(mem_size=6, **options)
