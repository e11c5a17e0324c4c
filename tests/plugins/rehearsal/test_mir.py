"""Which exemplars MIR replays; where Avalanche's replays none."""

import copy

import pytest
import torch
from avalanche.training.plugins import MIRPlugin as StockMIRPlugin
from torch import nn

from kancl.data.rows import as_tensors
from kancl.plugins.rehearsal.replay import MIRPlugin


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 6))


def test_replays_the_exemplars_that_the_step_would_hurt_most(points_benchmark, naive):
    checked = []

    class Spy(MIRPlugin):
        def before_backward(self, strategy, **kwargs):
            before = strategy.loss
            current = before.item()
            super().before_backward(strategy, **kwargs)
            if not self.n_kept:
                assert strategy.loss.item() == current
                return
            x, y, _ = as_tensors(self.exemplars.buffer)
            stepped = copy.deepcopy(strategy.model)
            loss = nn.functional.cross_entropy(stepped(strategy.mb_x), strategy.mb_y)
            for p, g in zip(
                stepped.parameters(), torch.autograd.grad(loss, stepped.parameters())
            ):
                p.data -= 0.5 * g
            losses = [
                nn.functional.cross_entropy(model(x), y, reduction="none")
                for model in (strategy.model, stepped)
            ]
            worst = (losses[1] - losses[0]).argsort(descending=True)[:3]
            expected = current + losses[0][worst].mean().item()
            assert strategy.loss.item() == pytest.approx(expected, rel=1e-5)
            checked.append(worst)

    plugin = Spy(mem_size=12, replay_batch_size=3, candidates=12)
    strategy = naive(network(), plugin, lr=0.5)
    for experience in points_benchmark().train_stream:
        strategy.train(experience)
    assert len(checked) == 6


@pytest.mark.parametrize("incremental, silent", [("class", 1), ("domain", 3)])
def test_stock_replays_nothing_of_the_experience_before(
    incremental, silent, points_benchmark, naive
):
    """Fails once Avalanche tells 'in the last batch' from 'of this experience'."""
    stock = StockMIRPlugin(batch_size_mem=4, mem_size=12)
    ours = MIRPlugin(mem_size=12, replay_batch_size=4, candidates=12)
    strategies = [naive(network(), plugin) for plugin in (stock, ours)]
    for t, experience in enumerate(points_benchmark(incremental).train_stream, 1):
        for strategy in strategies:
            strategy.train(experience)
        assert (stock.replay_loader is None) == (t <= silent)
        assert ours.n_kept == 12


def test_refuses_fewer_candidates_than_it_replays():
    with pytest.raises(ValueError, match="candidates must be at least 8, not 4"):
        MIRPlugin(mem_size=12, replay_batch_size=8, candidates=4)
