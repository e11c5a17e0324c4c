"""Accuracy on seen experiences in a stock Avalanche run, beside Avalanche's own."""

import pytest
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.logging import BaseLogger
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import JointTraining

from kancl.metrics import SeenExperiencesAccuracy
from tests.reporting.small_run import naive, small_mlp, stream_of_digits, train_through

STOCK = "Top1_Acc_Stream/eval_phase/test_stream/Task000"
SEEN = "Top1_Acc_Seen_Stream/eval_phase/test_stream"


def _evaluator(*metrics):
    return EvaluationPlugin(*metrics, loggers=[BaseLogger()], strict_checks=False)


@pytest.fixture(scope="module")
def series():
    """Both metrics of a naive run over five experiences of digits."""
    evaluator = _evaluator(
        accuracy_metrics(stream=True, experience=True), SeenExperiencesAccuracy()
    )
    train_through(naive(small_mlp(), evaluator=evaluator), stream_of_digits())
    return evaluator.get_all_metrics()


def test_avalanches_stream_accuracy_hides_the_fall_that_this_one_shows(series):
    stock, seen = series[STOCK][1], series[SEEN][1]
    assert len(stock) == 6 and len(seen) == 5  # nothing is seen before training
    assert max(stock[1:]) - min(stock[1:]) < 0.03  # reads as if nothing happened
    assert seen[0] > 0.95 and seen[-1] < 0.25  # nearly everything was lost
    assert seen[-1] == pytest.approx(stock[-1])  # all are seen in the end


def test_it_is_the_mean_of_the_experiences_seen(series):
    per_experience = [
        series[f"Top1_Acc_Exp/eval_phase/test_stream/Task000/Exp{k:03}"][1]
        for k in range(5)
    ]
    for n in range(1, 6):
        mean = sum(per_experience[k][n] for k in range(n)) / n
        assert series[SEEN][1][n - 1] == pytest.approx(mean)


def test_it_is_plotted_against_training_iterations(series):
    assert series[SEEN][0] == series[STOCK][0][1:]


def test_joint_training_has_seen_everything_at_once():
    evaluator = _evaluator(
        accuracy_metrics(stream=True), SeenExperiencesAccuracy(trains_jointly=True)
    )
    benchmark = stream_of_digits(n_train=32)
    strategy = naive(small_mlp(), evaluator=evaluator, cls=JointTraining)
    strategy.eval(benchmark.test_stream)
    strategy.train(benchmark.train_stream, eval_streams=[])
    strategy.eval(benchmark.test_stream)
    series = evaluator.get_all_metrics()
    assert series[SEEN][1] == pytest.approx(series[STOCK][1][1:])


def test_an_evaluation_of_unseen_experiences_only_reports_nothing():
    evaluator = _evaluator(SeenExperiencesAccuracy())
    benchmark = stream_of_digits(n_train=32)
    strategy = naive(small_mlp(), evaluator=evaluator)
    strategy.train(benchmark.train_stream[0], eval_streams=[])
    strategy.eval(benchmark.test_stream[1:])
    assert evaluator.get_all_metrics() == {}
