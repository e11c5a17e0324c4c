"""The L2 anchor's term, written out."""

import pytest
import torch
from torch import nn

from kancl.plugins.penalties.importances import L2AnchorPlugin


def test_all_parameters_weigh_alike_and_the_anchor_moves(points_benchmark, naive):
    plugin = L2AnchorPlugin(l2_lambda=3.0)
    strategy = naive(nn.Linear(6, 6), plugin)
    for experience in list(points_benchmark().train_stream)[:2]:
        strategy.train(experience)
        strategy.loss = torch.zeros(1)
        plugin.before_backward(strategy)
        assert strategy.loss.item() == 0
    with torch.no_grad():
        strategy.model.weight += 0.5
    plugin.before_backward(strategy)
    assert strategy.loss.item() == pytest.approx(3.0 * 36 * 0.25)


def test_refuses_a_negative_strength():
    with pytest.raises(ValueError, match="l2_lambda must be at least 0, not -1"):
        L2AnchorPlugin(l2_lambda=-1)
