"""GEM's quadratic program runs, and its gradient harms no past experience."""

import torch
from avalanche.core import SupervisedPlugin

from kancl.benchmarks import split_mnist
from kancl.models import KAN
from kancl.models.heads import with_head
from kancl.strategies import TrainingSetup, build


def test_projected_gradients_agree_with_every_past_experience():
    products, raw = [], []

    class Before(SupervisedPlugin):
        def after_backward(self, strategy, **kwargs):
            self.gradient = flat(strategy.model)

    class After(SupervisedPlugin):
        def before_update(self, strategy, **kwargs):
            gem = next(p for p in strategy.plugins if hasattr(p, "memory_strength"))
            if strategy.clock.train_exp_counter:
                products.extend((gem.G @ flat(strategy.model)).tolist())
                raw.extend((gem.G @ before.gradient).tolist())
                assert gem.G.shape[0] == strategy.clock.train_exp_counter

    def flat(model):
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    before = Before()
    benchmark = split_mnist(train_samples=40, incremental="domain")
    model = with_head(KAN([784, 8, 2]), "single", 2)
    setup = TrainingSetup(
        model,
        torch.optim.SGD(model.parameters(), lr=0.05),
        batch_size=8,
        iterations=5,
        plugins=[before, After()],
    )
    strategy = build("gem", setup, patterns_per_experience=16, memory_strength=0.0)
    for experience in list(benchmark.train_stream)[:3]:
        strategy.train(experience)
    assert len(products) == 5 + 10
    assert min(raw) < 0, "nothing had to be projected"
    scale = max(abs(p) for p in raw)
    assert min(products) > -1e-2 * scale  # the program is regularised by 1e-3
