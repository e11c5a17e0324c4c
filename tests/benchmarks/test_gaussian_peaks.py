"""Five peaks as a genuine Avalanche benchmark of a regression."""

import math

import pytest
import torch
from avalanche.benchmarks import CLScenario
from avalanche.logging import BaseLogger
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive

from kancl.benchmarks import gaussian_peaks
from kancl.benchmarks.gaussian_peaks import peaks
from kancl.data.rows import as_tensors
from kancl.metrics.score_matrix import SquaredError
from kancl.models import KANLinear


def test_the_function_is_that_of_the_paper():
    x = torch.tensor([[-0.8], [-0.75], [0.2]])
    tail = math.exp(-300 * 0.2**2)  # of the peaks on both sides of 0.2
    expected = torch.tensor([1.0, math.exp(-300 * 0.05**2), 2 * tail])
    assert torch.allclose(peaks(x), expected, atol=1e-6)
    corner = torch.tensor([[0.5, -0.5], [0.5, -0.4], [0.0, 0.0]])
    assert torch.allclose(
        peaks(corner), torch.tensor([1.0, math.exp(-1.0), 1.0]), atol=1e-4
    )


@pytest.mark.parametrize("dimensions, n", [(1, 100), (2, 400)])
def test_each_phase_is_the_neighbourhood_of_its_peak(dimensions, n):
    benchmark = gaussian_peaks(dimensions=dimensions)
    assert isinstance(benchmark, CLScenario)
    info = benchmark.info
    assert info.score.name == "rmse" and info.n_outputs == 1
    assert (info.in_features, info.head) == (dimensions, "single")
    assert len(benchmark.train_stream) == len(benchmark.test_stream) == 5
    found = []
    for experience in benchmark.train_stream:
        x, y, task_labels = as_tensors(experience.dataset)
        assert x.shape == (n, dimensions) and x.abs().max() <= 1
        assert torch.equal(y, peaks(x)) and task_labels.unique().tolist() == [0]
        one, value, _ = experience.dataset[7]
        assert torch.equal(one, x[7]) and value == y[7].item()
        found.append(x.mean(0))
        steps = x[:, -1].unique().diff()
        assert torch.allclose(steps, steps[0], atol=1e-6)
    if dimensions == 1:
        centres = torch.tensor([-0.8, -0.4, 0.0, 0.4, 0.8])
        assert torch.allclose(torch.cat(found), centres, atol=1e-6)


@pytest.mark.parametrize(
    "options, says",
    [
        ({"dimensions": 3}, "dimensions=3 must be 1 or 2"),
        ({"n_points": 2}, "n_points=2 must be a whole number, 4 or more"),
        ({"dimensions": 2, "n_points": 101}, "take 100 or 121"),
        ({"data_dir": "here"}, "gaussian_peaks reads no files"),
    ],
)
def test_what_cannot_be_is_refused(options, says):
    with pytest.raises(ValueError, match=says):
        gaussian_peaks(**options)


def test_a_stock_strategy_learns_a_peak():
    torch.manual_seed(0)
    model = KANLinear(1, 1, grid_size=20, base=False)
    learner = Naive(
        model=model,
        optimizer=torch.optim.Adam(model.parameters(), lr=0.02),
        criterion=SquaredError(),
        train_mb_size=100,
        train_epochs=60,
        evaluator=EvaluationPlugin(loggers=[BaseLogger()]),
    )
    experience = gaussian_peaks().train_stream[2]
    x, y, _ = as_tensors(experience.dataset)
    with torch.no_grad():
        before = SquaredError()(model(x), y).item()
        assert before == pytest.approx(((model(x)[:, 0] - y) ** 2).mean().item())
    learner.train(experience)
    with torch.no_grad():
        assert SquaredError()(model(x), y).item() < before / 10
