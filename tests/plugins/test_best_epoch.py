"""The best epoch by validation, against a spy that looks after every epoch by itself."""

from copy import deepcopy

import pytest
import torch
from avalanche.logging import BaseLogger
from avalanche.training.plugins import EvaluationPlugin, SupervisedPlugin
from avalanche.training.supervised import Cumulative, JointTraining, Naive
from torch import nn

from kancl.data.rows import as_tensors
from kancl.plugins.loop import BestEpochPlugin

N_EPOCHS = 12


class Spy(SupervisedPlugin):
    """Accuracy and weights after each epoch, by experience."""

    def __init__(self, stream):
        super().__init__()
        self.stream, self.seen = list(stream), []

    def before_training_exp(self, strategy, **kwargs):
        self.seen.append([])

    def after_training_epoch(self, strategy, **kwargs):
        x, y, _ = as_tensors(
            self.stream[strategy.experience.current_experience].dataset
        )
        right = (strategy.model.eval()(x).argmax(1) == y).sum().item()
        strategy.model.train()
        self.seen[-1].append((right, deepcopy(strategy.model.state_dict())))


@pytest.mark.parametrize("patience", [None, 1, 3])
@pytest.mark.parametrize("restore", [True, False])
def test_it_stops_and_keeps_what_the_spy_says(
    points_benchmark, naive, patience, restore
):
    torch.manual_seed(0)
    benchmark = points_benchmark("domain")
    measured = {"epochs_trained": [], "best_epoch": []}
    plugin = BestEpochPlugin(
        stream=benchmark.test_stream,
        patience=patience,
        restore=restore,
        record=lambda name, value: measured[name].append(value),
    )
    spy = Spy(benchmark.test_stream)
    model = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.8), nn.Tanh(), nn.Linear(6, 2))
    strategy = naive(model, plugin, spy, lr=0.3)
    strategy.train_epochs = N_EPOCHS
    for experience in benchmark.train_stream:
        strategy.train(experience)
        accuracies = [right for right, _ in spy.seen[-1]]
        best = accuracies.index(max(accuracies))
        n = len(accuracies)
        assert (measured["epochs_trained"][-1], measured["best_epoch"][-1]) == (
            n,
            best + 1,
        )
        if patience is None:
            assert n == N_EPOCHS
        else:
            since = [
                k - accuracies[: k + 1].index(max(accuracies[: k + 1]))
                for k in range(n)
            ]
            assert all(waited < patience for waited in since[:-1])
            assert since[-1] == patience or n == N_EPOCHS
        kept = spy.seen[-1][best if restore else -1][1]
        for name, tensor in strategy.model.state_dict().items():
            assert torch.equal(tensor, kept[name])
    if patience == 1:
        assert min(measured["epochs_trained"]) < N_EPOCHS


@pytest.mark.parametrize("template", [Naive, Cumulative, JointTraining])
def test_validation_data_of_all_that_is_trained_decide(points_benchmark, template):
    benchmark = points_benchmark()
    plugin = BestEpochPlugin(stream=benchmark.test_stream)
    model = nn.Linear(6, 6)
    strategy = template(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        criterion=nn.CrossEntropyLoss(),
        plugins=[plugin],
        evaluator=EvaluationPlugin(loggers=[BaseLogger()]),
    )
    seen, train = [], benchmark.train_stream
    for part in [train] if template is JointTraining else train:
        strategy.train(part)
        seen.append(plugin._data[1].unique().tolist())
    assert (
        seen
        == {
            Naive: [[0, 1], [2, 3], [4, 5]],
            Cumulative: [[0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5]],
            JointTraining: [[0, 1, 2, 3, 4, 5]],
        }[template]
    )


def test_no_patience_at_all_is_refused():
    with pytest.raises(ValueError, match="patience=0 must be at least 1"):
        BestEpochPlugin(stream=[], patience=0)
