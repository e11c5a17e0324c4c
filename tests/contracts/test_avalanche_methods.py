"""Avalanche's own methods and metrics on kancl's benchmarks and networks."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from avalanche.evaluation.metrics import (
    MAC_metrics,
    accuracy_metrics,
    confusion_matrix_metrics,
)
from avalanche.logging import BaseLogger
from avalanche.models import FeCAMClassifier, TrainEvalModel
from avalanche.training.plugins import (
    CoPEPlugin,
    CurrentDataFeCAMUpdate,
    CWRStarPlugin,
    EvaluationPlugin,
    LFLPlugin,
)
from avalanche.training.supervised import (
    LFL,
    CoPE,
    CWRStar,
    FeatureReplay,
    ICaRL,
    Naive,
    StreamingLDA,
)
from torch import nn

from kancl.benchmarks import gaussian_peaks, permuted_mnist, split_mnist
from kancl.data.rows import as_tensors
from kancl.metrics import mac_metrics
from kancl.models import KAN, MLP
from kancl.models.cost import forward_flops
from kancl.models.heads import LinearClassifier, with_head
from kancl.plugins.plugin import TrainingSetup
from kancl.strategies import build

SMALL: dict[str, Any] = {"train_samples": 40, "test_samples": 20}


@pytest.fixture(scope="module")
def benchmark() -> Any:
    return split_mnist(n_experiences=2, class_order="random", seed=3, **SMALL)


@pytest.fixture(params=["kan", "mlp"])
def model(request: pytest.FixtureRequest) -> LinearClassifier:
    torch.manual_seed(0)
    if request.param == "mlp":
        return LinearClassifier(MLP([784, 8, 10]))
    return LinearClassifier(KAN([784, 8, 10], grid_range=(-4, 4), input_range=(0, 1)))


def options(model: nn.Module, *metrics: Any) -> dict[str, Any]:
    return {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.01),
        "train_mb_size": 8,
        "train_epochs": 3,
        "eval_mb_size": 64,
        "evaluator": EvaluationPlugin(*metrics, loggers=[BaseLogger()]),
    }


def train_through(strategy: Any, benchmark: Any) -> None:
    for experience in benchmark.train_stream:
        strategy.train(experience)
    strategy.eval(benchmark.test_stream)


def outputs_on_test_data(strategy: Any, benchmark: Any) -> torch.Tensor:
    x, _, _ = as_tensors(benchmark.test_stream[0].dataset)
    with torch.no_grad():
        return strategy.model.eval()(x)


def test_confusion_matrix_counts_every_test_image(benchmark: Any) -> None:
    matrix = confusion_matrix_metrics(num_classes=10, stream=True)
    network = with_head(MLP([784, 8, 10]), "single", 10)
    strategy = Naive(criterion=nn.CrossEntropyLoss(), **options(network, matrix))
    strategy.train(benchmark.train_stream[0])
    values = strategy.eval(benchmark.test_stream)
    counts = strategy.evaluator.get_last_metrics()
    (name,) = [name for name in counts if name.startswith("ConfusionMatrix_Stream")]
    assert values.keys() == counts.keys()
    targets = [as_tensors(e.dataset)[1] for e in benchmark.test_stream]
    expected = torch.bincount(torch.cat(targets), minlength=10)
    assert torch.equal(counts[name].alternatives[1].sum(1), expected)


def test_cwr_star_keeps_the_weights_of_past_classes(
    model: LinearClassifier, benchmark: Any
) -> None:
    strategy = CWRStar(
        cwr_layer_name=None, criterion=nn.CrossEntropyLoss(), **options(model)
    )
    first, second = benchmark.train_stream
    strategy.train(first)
    past = first.classes_in_this_experience
    kept = model.classifier.weight[past].detach().clone()
    strategy.train(second)
    assert kept.abs().max() > 0
    assert torch.equal(model.classifier.weight[past], kept)


def test_cope_puts_outputs_on_the_unit_sphere(
    model: LinearClassifier, benchmark: Any
) -> None:
    strategy = CoPE(
        criterion=nn.CrossEntropyLoss(),
        mem_size=20,
        n_classes=benchmark.n_classes,
        p_size=10,
        **options(model),
    )
    train_through(strategy, benchmark)
    outputs = outputs_on_test_data(strategy, benchmark)
    assert torch.allclose(outputs.norm(dim=1), torch.ones(len(outputs)))


def test_lfl_freezes_the_last_layer_and_holds_features(
    model: LinearClassifier, benchmark: Any
) -> None:
    first, second = benchmark.train_stream
    x, _, _ = as_tensors(first.dataset)
    drifts = []
    for strength in (0.0, 10.0):
        twin = deepcopy(model)
        torch.manual_seed(1)
        strategy = LFL(
            lambda_e=strength, criterion=nn.CrossEntropyLoss(), **options(twin)
        )
        strategy.train(first)
        weights = twin.classifier.weight.detach().clone()
        before = twin.get_features(x).detach()
        strategy.train(second)
        assert torch.equal(twin.classifier.weight, weights)
        after = twin.get_features(x).detach()
        drifts.append(float((after - before).square().mean()))
    assert 0 < drifts[1] < 0.7 * drifts[0]


def test_feature_replay_trains_on_kept_features(
    model: LinearClassifier, benchmark: Any
) -> None:
    strategy = FeatureReplay(mem_size=20, batch_size_mem=4, **options(model))
    train_through(strategy, benchmark)
    kept = strategy.storage_policy.buffer
    assert len(kept) == 20
    assert kept[0][0].shape == (model.get_features(torch.rand(1, 784)).shape[1],)


def test_streaming_lda_learns_from_the_features(
    model: LinearClassifier, benchmark: Any
) -> None:
    arguments = options(model, accuracy_metrics(stream=True))
    del arguments["optimizer"], arguments["train_epochs"]
    strategy = StreamingLDA(
        slda_model=arguments.pop("model"),
        criterion=nn.CrossEntropyLoss(),
        input_size=model.classifier.in_features,
        num_classes=benchmark.n_classes,
        output_layer_name="feature_extractor",
        train_epochs=1,
        **arguments,
    )
    train_through(strategy, benchmark)
    values = strategy.eval(benchmark.train_stream)
    assert values["Top1_Acc_Stream/eval_phase/train_stream/Task000"] > 0.3  # 10 classes


def test_fecam_classifies_by_the_features(
    model: LinearClassifier, benchmark: Any
) -> None:
    first = benchmark.train_stream[0]
    features = model.feature_extractor
    fecam = TrainEvalModel(features, model.classifier, FeCAMClassifier(tukey=False))
    strategy = Naive(criterion=nn.CrossEntropyLoss(), **options(fecam))
    strategy.plugins.append(CurrentDataFeCAMUpdate())
    strategy.train(first)
    x, y, _ = as_tensors(first.dataset)
    with torch.no_grad():
        hits = fecam.eval()(x).argmax(1) == y
    assert float(hits.float().mean()) > 0.5


def test_icarl_classifies_among_all_classes_seen(
    model: LinearClassifier, benchmark: Any
) -> None:
    parts = model.feature_extractor, model.classifier
    arguments = options(model)
    del arguments["model"]
    strategy = ICaRL(
        feature_extractor=parts[0],
        classifier=parts[1],
        memory_size=20,
        buffer_transform=None,
        fixed_memory=True,
        **arguments,
    )
    train_through(strategy, benchmark)
    (plugin,) = [p for p in strategy.plugins if hasattr(p, "observed_classes")]
    assert plugin.observed_classes == benchmark.classes_order
    winners = outputs_on_test_data(strategy, benchmark).argmax(1).unique()
    seen = benchmark.train_stream[-1].classes_seen_so_far
    assert len(winners) > 1 and {*winners.tolist()} <= {*seen}


def test_icarl_is_refused_where_experiences_share_classes() -> None:
    model = LinearClassifier(MLP([784, 8, 10]))
    arguments = options(model)
    del arguments["model"]
    strategy = ICaRL(
        feature_extractor=model.feature_extractor,
        classifier=model.classifier,
        memory_size=20,
        buffer_transform=None,
        fixed_memory=True,
        **arguments,
    )
    shared = permuted_mnist(n_experiences=2, **SMALL)
    before = deepcopy(model.state_dict())
    with pytest.raises(
        AttributeError, match="iCaRL .* need scenario.incremental=class"
    ):
        strategy.train(shared.train_stream[0])
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_benchmarks_count_classes_as_avalanche_does() -> None:
    split = split_mnist(class_order="random", seed=3, **SMALL)
    experiences = [e.classes_in_this_experience for e in split.train_stream]
    assert split.train_stream[2].benchmark is split.test_stream[1].benchmark is split
    assert (split.n_experiences, split.n_classes) == (5, 10)
    assert split.n_classes_per_exp == [2] * 5
    assert split.classes_order == sum(experiences, [])
    by_task = split_mnist(incremental="task", **SMALL)
    assert (by_task.n_classes, by_task.n_classes_per_exp) == (10, [2] * 5)
    permuted = permuted_mnist(n_experiences=3, **SMALL)
    assert (permuted.n_classes, permuted.n_classes_per_exp) == (10, [10] * 3)
    growing = permuted_mnist(n_experiences=3, incremental="class", **SMALL)
    assert growing.n_classes == 30 and growing.classes_order == [*range(30)]
    with pytest.raises(AttributeError, match="gaussian_peaks is a regression"):
        _ = gaussian_peaks().n_classes


@pytest.mark.parametrize("degree", [2, 3])
@pytest.mark.parametrize("base", [True, False])
def test_mac_metrics_say_what_the_cost_says(
    benchmark: Any, degree: int, base: bool
) -> None:
    layers = KAN([784, 8, 10], 4, degree, base=base)
    metrics = mac_metrics(epoch=True, experience=True)
    network = with_head(layers, "single", 10)
    strategy = Naive(criterion=nn.CrossEntropyLoss(), **options(network, *metrics))
    strategy.train(benchmark.train_stream[0])
    strategy.eval(benchmark.test_stream)
    values = strategy.evaluator.get_last_metrics()
    flops = forward_flops(network)
    assert {v for k, v in values.items() if k.startswith("MAC_")} == {flops // 2}
    assert forward_flops(LinearClassifier(layers)) == flops


def test_stock_mac_metrics_are_refused_for_splines() -> None:
    evaluator = EvaluationPlugin(MAC_metrics(epoch=True), loggers=[BaseLogger()])
    for network in (KAN([784, 8, 10]), MLP([784, 8, 10])):
        model = with_head(network, "single", 10)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        setup = TrainingSetup(model, optimizer, evaluator=evaluator)
        if isinstance(network, MLP):
            build("naive", setup)
        else:
            with pytest.raises(ValueError, match="kancl.metrics.mac_metrics"):
                build("naive", setup)


def test_methods_that_need_a_last_linear_layer_say_what_to_use() -> None:
    model = with_head(MLP([784, 8, 10]), "single", 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for plugin in (CoPEPlugin(), LFLPlugin(1.0), CWRStarPlugin(model)):
        setup = TrainingSetup(model, optimizer, plugins=[plugin])
        with pytest.raises(ValueError, match="models.heads.LinearClassifier"):
            build("naive", setup)
    with pytest.raises(ValueError, match="takes a network with its last layer"):
        LinearClassifier(model)


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("warped", [True, False])
def test_a_linear_classifier_is_the_same_function(scale: bool, warped: bool) -> None:
    network = KAN(
        [5, 4, 3],
        grid_range=(-2, 2),
        anchor=0.5,
        enable_standalone_scale_spline=scale,
        implementation="reference",
    ).double()
    if warped:
        network.layers[1].warp_grid(torch.randn(200, 4, dtype=torch.float64))
    x = torch.rand(50, 5, dtype=torch.float64)
    expected = network(x)
    model = LinearClassifier(network)
    assert torch.allclose(model(x), expected, atol=1e-12)
    assert {*dict(model.named_parameters())} == {
        "feature_extractor.1.network.layers.0." + name
        for name, _ in network.layers[0].named_parameters()
    } | {"classifier.weight"}
