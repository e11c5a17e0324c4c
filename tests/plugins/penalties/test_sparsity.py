"""The penalty on edges against the method of the network, and what it does to them."""

import copy

import pytest
import torch

from kancl.models import kan
from kancl.models.edges import edge_scores
from kancl.models.heads import with_head
from kancl.plugins.penalties.sparsity import SparsityPlugin


def small(head="single"):
    torch.manual_seed(0)
    return with_head(kan(6, 6, hidden=(4,), input_range=(-3, 3)), head, 6)


def test_a_step_follows_the_loss_and_the_networks_sparsity(naive, points_benchmark):
    experience = points_benchmark(n=8).train_stream[0]
    model = small()
    twin = copy.deepcopy(model)
    plugin = SparsityPlugin(sparsity_lambda=0.3, l1=2.0, entropy=0.5)
    naive(model, plugin).train(experience, shuffle=False)
    x, y = (
        torch.stack([torch.as_tensor(s[k]) for s in experience.dataset]) for k in (0, 1)
    )
    loss = torch.nn.functional.cross_entropy(twin(x), y)
    (loss + 0.3 * twin.network.sparsity_loss(x.flatten(1), 2.0, 0.5)).backward()
    for ours, theirs in zip(model.parameters(), twin.parameters()):
        assert torch.allclose(ours, theirs - 0.1 * theirs.grad, atol=1e-6)
    assert not model.network.layers[0]._forward_pre_hooks


@pytest.mark.parametrize("head", ["single", "growing"])
def test_edges_become_fewer(naive, points_benchmark, head):
    sizes = []
    for strength in (0.0, 0.3):
        model = small(head)
        strategy = naive(model, SparsityPlugin(sparsity_lambda=strength))
        benchmark = points_benchmark()
        for experience in benchmark.train_stream:
            strategy.train(experience)
        x = torch.stack([torch.as_tensor(s[0]) for s in experience.dataset]).flatten(1)
        heads = getattr(model, "heads", [])
        scores = edge_scores(model.network, x, [*heads])
        sizes.append(sum(float(score.sum()) for score in scores.l1))
    assert sizes[1] < 0.8 * sizes[0]
