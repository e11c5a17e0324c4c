"""Every experience starts from the first one's weights."""

import torch
from torch import nn

from kancl.plugins.loop import FromScratchPlugin
from kancl.plugins.rehearsal.replay import MemoryOnlyPlugin


class Head(nn.Module):
    """Weights, a float buffer as a grid is one, and integer book-keeping."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 6)
        self.register_buffer("grid", torch.linspace(-1, 1, 5))
        self.register_buffer("seen", torch.zeros(6, dtype=torch.long))

    def forward(self, x):
        return self.inner(x)


def test_equals_training_on_that_experience_alone(points_benchmark, naive):
    stream = list(points_benchmark().train_stream)
    torch.manual_seed(0)
    model = Head()
    start = model.inner.weight.detach().clone()
    strategy = naive(model, FromScratchPlugin())
    strategy.train(stream[0])
    model.grid.mul_(2)
    model.seen.fill_(7)
    torch.manual_seed(5)
    strategy.train(stream[1])
    assert model.grid[-1] == 1 and model.seen[0] == 7

    alone = Head()
    alone.load_state_dict({**model.state_dict(), "inner.weight": start})
    torch.manual_seed(0)
    alone.inner = Head().inner
    torch.manual_seed(5)
    naive(alone).train(stream[1])
    assert torch.equal(alone.inner.weight, model.inner.weight)
    assert torch.equal(alone.inner.bias, model.inner.bias)


def test_memory_only_trains_on_the_exemplars(points_benchmark, naive):
    seen = []

    class Spy(FromScratchPlugin):
        def after_forward(self, strategy, **kwargs):
            seen.extend(tuple(x.tolist()) for x in strategy.mb_x)

    plugin = MemoryOnlyPlugin(mem_size=10)
    exemplars = plugin.exemplars
    strategy = naive(nn.Linear(6, 6), plugin, Spy())
    for experience in points_benchmark().train_stream:
        seen.clear()
        strategy.train(experience)
        assert sorted(seen) == sorted(tuple(x.tolist()) for x, *_ in exemplars.buffer)
        assert len(seen) == 10
