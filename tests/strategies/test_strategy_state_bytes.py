"""What strategies keep, against sizes worked by hand."""

import pytest
import torch
from torch import nn

from kancl.benchmarks import split_mnist
from kancl.observe.recorder import RecorderPlugin
from kancl.strategies import TrainingSetup, build, strategy_state_bytes

N_PARAMETERS = 784 * 10 + 10
IMAGE = 784 * 4 + 8 + 8  # float32 pixels, an int64 target, a task label
KEYS = 4 * 40  # a random key of every image seen


@pytest.fixture(scope="module")
def experiences():
    return list(split_mnist(train_samples=20, test_samples=6).train_stream)


def kept(name, experiences, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    setup = TrainingSetup(model, optimizer, batch_size=8)
    strategy = build(name, setup, **options)
    for experience in experiences[:2]:
        strategy.train(experience)
    return strategy_state_bytes(strategy)


@pytest.mark.parametrize(
    "name, options, expected",
    [
        ("naive", {}, 0),
        ("l2_anchor", {}, 2 * 4 * N_PARAMETERS),  # as EWC, all importances 1
        ("ewc", {}, 2 * 4 * N_PARAMETERS),  # importances and old parameters
        ("lwf", {}, 4 * N_PARAMETERS),  # the old network
        ("replay", {"mem_size": 30}, 30 * IMAGE + KEYS),
        (
            "gdumb",
            {"mem_size": 30},
            30 * IMAGE + 4 * N_PARAMETERS + KEYS,
        ),  # first weights
        ("ewc+replay", {"mem_size": 30}, 2 * 4 * N_PARAMETERS + 30 * IMAGE + KEYS),
    ],
)
def test_bytes_are_those_of_what_the_method_needs(name, options, expected, experiences):
    assert kept(name, experiences, **options) == expected


@pytest.mark.parametrize("name", ["si", "mas", "agem", "gem", "der", "er_ace", "mir"])
def test_every_method_that_remembers_keeps_something(name, experiences):
    assert 0 < kept(name, experiences) < 10 * 4 * N_PARAMETERS + 40 * 3 * IMAGE


def test_observers_and_the_model_do_not_count(experiences):
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    recorder = RecorderPlugin(5)
    setup = TrainingSetup(model, optimizer, batch_size=8, plugins=[recorder])
    strategy = build("naive", setup)
    strategy.train(experiences[0])
    assert recorder.measurements and strategy_state_bytes(strategy) == 0
