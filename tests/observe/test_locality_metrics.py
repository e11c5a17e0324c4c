"""Metrics 1 to 9 of locality in a stock Avalanche run, with Avalanche's own loggers."""

import pytest
import torch
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.logging import BaseLogger, TextLogger
from avalanche.training.plugins import EvaluationPlugin
from torch import nn

from kancl import KAN
from kancl.observe.snapshots import FAMILIES, LocalityMetrics
from tests.reporting.small_run import naive, small_mlp, stream_of_digits, train_through


def small_kan():
    torch.manual_seed(1)
    kan = KAN([784, 6, 10], input_range=(0, 1), enable_standalone_scale_spline=False)
    return nn.Sequential(nn.Flatten(), kan)


def watched(model, *metrics, n=3, loggers=None):
    evaluator = EvaluationPlugin(
        *metrics, loggers=loggers or [BaseLogger()], strict_checks=False
    )
    benchmark = stream_of_digits(n, n_train=64, n_classes=2 * n)
    train_through(naive(model, lr=0.03, evaluator=evaluator), benchmark)
    return evaluator.get_all_metrics()


def locality(**options):
    test_stream = stream_of_digits(3, n_train=64, n_classes=6).test_stream
    return LocalityMetrics(test_stream, 16, **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The series of all families beside Avalanche's accuracies, and the log."""
    path = tmp_path_factory.mktemp("stock") / "log.txt"
    with path.open("w") as file:
        series = watched(
            small_kan(),
            accuracy_metrics(experience=True, stream=True),
            locality(),
            loggers=[TextLogger(file)],
        )
    return series, path.read_text()


NAMES = {
    "occupancy": ("off_grid_", "effective_fraction_"),
    "overlap": ("exposure_", "bhattacharyya_", "jaccard_", "coactivation_"),
    "drift": ("drift_",),
    "leak": ("leak",),
    "gradients": ("gradient_",),
    "kernel": ("kernel_ratio_",),
    "rollback": ("rollback_",),
    "inference": (
        *("experience_inference", "within_experience_accuracy"),
        *("oracle_accuracy", "recency_bias"),
    ),
    "forecast": ("forecast_",),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_reported_and_logged(run, family):
    series, log = run
    for start in NAMES[family]:
        names = [name for name in series if name.startswith(f"Locality/{start}")]
        assert names and all(name in log for name in names)


def test_pairs_come_before_the_damage_and_of_the_right_size(run):
    series, _ = run
    (at,), (exposure,) = series["Locality/exposure_layer_1_before_3/Exp000"]
    assert at == 2 * 8 and 0.5 < exposure <= 1  # 2 experiences of 8 iterations
    pairs = [name for name in series if "Locality/jaccard_layer_1" in name]
    assert len(pairs) == 3


def test_their_product_is_avalanches_own_accuracy(run):
    series, _ = run
    experience, within = (
        series[f"Locality/{what}"][1][-1]
        for what in ("experience_inference", "within_experience_accuracy")
    )
    name = "Top1_Acc_Stream/eval_phase/test_stream/Task000"
    assert experience * within == pytest.approx(series[name][1][-1])


def test_rolled_back_altogether_is_the_accuracy_of_then(run):
    series, _ = run
    assert {"splines", "base", "layer_1", "head", "all", "nothing"} == {
        name.split("/")[1].removeprefix("rollback_")
        for name in series
        if "rollback" in name
    }
    for k in range(2):
        assert 0 <= series[f"Locality/rollback_all/Exp{k:03}"][1][0] <= 1


def test_plain_sgd_leaks_nothing_momentum_does():
    def leaks(momentum):
        model = small_kan()
        metric = locality(families=["leak"])
        evaluator = EvaluationPlugin(metric, loggers=[BaseLogger()])
        benchmark = stream_of_digits(3, n_train=64, n_classes=6)
        strategy = naive(model, evaluator=evaluator, epochs=1)
        strategy.optimizer.param_groups[0]["momentum"] = momentum
        train_through(strategy, benchmark)
        found = evaluator.get_all_metrics()
        assert all(name.startswith("Locality/leak/Exp") for name in found)
        return [values[0] for _, values in found.values()]

    assert leaks(0.0) == [0, 0, 0]
    assert leaks(0.9)[0] == 0 and max(leaks(0.9)[1:]) > 0


def test_it_only_looks():
    models = small_kan(), small_kan()
    watched(models[0], locality())
    watched(models[1], accuracy_metrics(stream=True))
    for a, b in zip(models[0].parameters(), models[1].parameters()):
        assert torch.equal(a, b)


def test_mlps_have_them_too_and_unknown_families_are_refused():
    metric = locality()
    series = watched(small_mlp(6), metric)
    assert metric.result().keys() == series.keys()
    assert "Locality/gradient_cosine_head_before_2/Exp000" in series
    with pytest.raises(ValueError, match="got 'lek'"):
        locality(families=["lek"])
