"""What strategies hold, against sizes worked by hand."""

import pytest
import torch
from torch import nn

from kancl.benchmarks import split_mnist
from kancl.strategies import STRATEGIES, TrainingSetup
from kancl.strategies.held_memory import held_bytes

N_PARAMETERS = 784 * 10 + 10
IMAGE = 784 * 4 + 8  # float32 pixels, an int64 target


@pytest.fixture(scope="module")
def experiences():
    return list(split_mnist(train_samples=20, test_samples=6).train_stream)


def held(name, experiences, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    setup = TrainingSetup(model, optimizer, batch_size=8)
    strategy = STRATEGIES[name](setup, **options)
    for experience in experiences[:2]:
        strategy.train(experience)
    return held_bytes(strategy)


@pytest.mark.parametrize(
    "name, options, expected",
    [
        ("naive", {}, 0),
        ("l2_anchor", {}, 2 * 4 * N_PARAMETERS),  # as EWC, all importances 1
        ("ewc", {}, 2 * 4 * N_PARAMETERS),  # importances and old parameters
        ("lwf", {}, 4 * N_PARAMETERS),  # the old network
        ("replay", {"mem_size": 30}, 30 * (IMAGE + 8)),  # with their task labels
        # with the first weights, and a random key of every image seen
        ("gdumb", {"mem_size": 30}, 30 * IMAGE + 4 * N_PARAMETERS + 4 * 40),
    ],
)
def test_bytes_are_those_of_what_the_method_needs(name, options, expected, experiences):
    assert held(name, experiences, **options) == expected


@pytest.mark.parametrize("name", ["si", "mas", "agem", "gem", "der", "er_ace", "mir"])
def test_every_method_that_remembers_holds_something(name, experiences):
    assert 0 < held(name, experiences) < 10 * 4 * N_PARAMETERS + 40 * 3 * IMAGE


def test_observers_and_the_model_do_not_count(experiences):
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    strategy = STRATEGIES["ewc"](TrainingSetup(model, optimizer, batch_size=8))
    strategy.train(experiences[0])
    assert held_bytes(strategy) > 0
    assert held_bytes(strategy, strategy.plugins) == 0
