"""MAS's importances against a loop over samples; Avalanche's failure at loss 0."""

import pytest
import torch
from avalanche.training.plugins import MASPlugin as StockMASPlugin
from torch import nn

from kancl.data.rows import as_tensors
from kancl.models import KANLinear
from kancl.plugins.penalties.importances import MASPlugin

NETWORKS = {
    "mlp": lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 6)),
    "kan": lambda: nn.Sequential(KANLinear(6, 5), KANLinear(5, 6)),
}


class NoLoss(nn.Module):
    """Exactly 0, as cross-entropy becomes on data that are learned perfectly."""

    def forward(self, output, target):
        return 0 * output.sum()


@pytest.mark.parametrize("network", NETWORKS)
def test_importances_are_summed_absolute_sensitivities(
    network, points_benchmark, naive
):
    plugin = MASPlugin(mas_lambda=1.0)
    strategy = naive(NETWORKS[network](), plugin)
    parameters = dict(strategy.model.named_parameters())
    expected = {n: torch.zeros_like(p) for n, p in parameters.items()}
    for experience in list(points_benchmark().train_stream)[:2]:
        strategy.train(experience)
        x, _, _ = as_tensors(experience.dataset)
        for row in x:
            norm = strategy.model(row[None]).pow(2).sum()
            for n, g in zip(
                parameters, torch.autograd.grad(norm, list(parameters.values()))
            ):
                expected[n] += g.abs() / len(x)
    torch.testing.assert_close(plugin.anchor.importance, expected, rtol=2e-4, atol=1e-7)
    with torch.no_grad():
        for p in parameters.values():
            p += 0.5
    strategy.loss = torch.zeros(1)
    plugin.before_backward(strategy)
    total = 0.25 * sum(o.sum() for o in expected.values())
    torch.testing.assert_close(strategy.loss, total[None], rtol=2e-4, atol=0)


def test_a_loss_of_zero_is_no_failure_as_it_is_in_stock(points_benchmark, naive):
    """The stock half fails once Avalanche stops testing the loss's truth."""
    experiences = list(points_benchmark().train_stream)[:2]
    strategy = naive(NETWORKS["mlp"](), MASPlugin(mas_lambda=1.0), criterion=NoLoss())
    strategy.train(experiences)
    stock = naive(NETWORKS["mlp"](), StockMASPlugin(), criterion=NoLoss())
    with pytest.raises(ValueError, match="Loss is not available"):
        stock.train(experiences)


def test_refuses_a_negative_strength():
    with pytest.raises(ValueError, match="mas_lambda must be at least 0, not -2"):
        MASPlugin(mas_lambda=-2)
