"""Every sum of two strategies trains, or is refused in one sentence before training."""

from itertools import combinations

import pytest
import torch

from kancl.benchmarks import split_mnist
from kancl.models import KAN
from kancl.models.heads import with_head
from kancl.plugins.plugin import Stage
from kancl.strategies import GROUP, STRATEGIES, TrainingSetup, build
from kancl.strategies.registry import stage

SMALL = {
    "mem_size": 12,
    "patterns_per_experience": 6,
    "candidates": 10,
    "structure": "blocks",
    "n_features": 20,
}
PAIRS = list(combinations(STRATEGIES, 2))


@pytest.fixture(scope="module")
def experiences():
    benchmark = split_mnist(train_samples=16, test_samples=4)
    return list(benchmark.train_stream)[:2]


def made(name):
    torch.manual_seed(0)
    network = KAN([784, 4, 10], 2, 2, enable_standalone_scale_spline=False)
    model = with_head(network, "single", 10)
    setup = TrainingSetup(
        model, torch.optim.SGD(model.parameters(), lr=0.05), batch_size=8, iterations=2
    )
    keys = {k: v for k, v in SMALL.items() if k in GROUP.options(name)}
    keys |= {
        key: SMALL[key.split(".")[-1]]
        for key in GROUP.options(name)
        if key.split(".")[-1] in SMALL
    }
    return build(name, setup, **keys)


@pytest.mark.parametrize(
    "pair",
    [
        pytest.param(
            pair, marks=[] if k % 18 == 0 else pytest.mark.proof, id="+".join(pair)
        )
        for k, pair in enumerate(PAIRS)
    ],
)
def test_a_pair_trains_or_is_refused(pair, experiences):
    try:
        strategy = made("+".join(pair))
    except ValueError as refusal:
        said = str(refusal)
        assert "instead" in said and "\n" not in said
        assert all(name in said for name in pair) or "more than once" in said
        return
    stages = [stage(plugin) for plugin in strategy.plugins]
    own = [s for s in stages if s not in (Stage.OBSERVE, Stage.LOADER)]
    assert own == sorted(own)
    before = [p.detach().clone() for p in strategy.model.parameters()]
    for experience in experiences:
        strategy.train(experience)
    after = list(strategy.model.parameters())
    assert all(torch.isfinite(p).all() for p in after)
    assert any(not torch.equal(a, b) for a, b in zip(before, after))
