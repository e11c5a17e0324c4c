"""Evaluations leave no trace; stock ones do."""

import torch
from torch import nn

from kancl.plugins.loop.quiet_evaluation import QuietEvaluationPlugin


def test_random_state_is_put_back_as_stock_does_not(points_benchmark, naive):
    experience = points_benchmark().test_stream[0]
    states = []
    for plugins in ([QuietEvaluationPlugin()], []):
        strategy = naive(nn.Linear(6, 6), *plugins)
        before = torch.random.get_rng_state()
        strategy.eval(experience)
        states.append(torch.equal(before, torch.random.get_rng_state()))
    assert states == [True, False]
