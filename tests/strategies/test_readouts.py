"""Readouts on real, small streams: any order of experiences, the same classifier."""

import pytest
import torch

from kancl.benchmarks import split_mnist
from kancl.models import KAN, MLP
from kancl.models.heads import with_head
from kancl.models.inspect import last_layers
from kancl.strategies import TrainingSetup, build

NETWORKS = {
    "kan": lambda n: KAN([784, 6, n], 3, 2, enable_standalone_scale_spline=False),
    "mlp": lambda n: MLP([784, 6, n]),
}
CASES = [
    ("ridge_readout", "kan", {"n_features": 40}),
    ("ridge_readout", "mlp", {"n_features": 40}),
    ("ridge_readout", "kan", {"features": "network"}),
    ("ridge_readout", "mlp", {"features": "inputs", "ridge": 0.1}),
    ("nearest_mean", "kan", {}),
    ("nearest_mean", "mlp", {}),
    ("spline_bayes", "kan", {}),
]


@pytest.fixture(scope="module")
def benchmark():
    return split_mnist(train_samples=60, test_samples=40)


def trained(name, network, options, order, benchmark, head="single", seed=0):
    torch.manual_seed(0)
    model = with_head(NETWORKS[network](10), head, 10)
    setup = TrainingSetup(
        model, torch.optim.SGD(model.parameters(), lr=0.1), batch_size=16, seed=seed
    )
    strategy = build(name, setup, **options)
    stream = list(benchmark.train_stream)
    for experience in order:
        strategy.train(stream[experience])
    return strategy


def accuracy(model, benchmark):
    model.eval()
    hits = [
        (
            model(torch.stack([x for x, *_ in e.dataset])).argmax(1)
            == torch.tensor([y for _, y, *_ in e.dataset])
        ).float()
        for e in benchmark.test_stream
    ]
    return float(torch.cat(hits).mean())


@pytest.mark.parametrize("name, network, options", CASES)
def test_the_order_of_experiences_does_not_matter(name, network, options, benchmark):
    x = torch.rand(20, 784)
    outputs = [
        trained(name, network, options, order, benchmark).model.eval()(x).detach()
        for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1])
    ]
    size = outputs[0].abs().max()
    torch.testing.assert_close(*outputs, rtol=0, atol=float(1e-3 * size))


@pytest.mark.parametrize("name, network, options", CASES)
def test_learns_ten_classes_from_sixty_images_each(name, network, options, benchmark):
    strategy = trained(name, network, options, range(5), benchmark)
    floor = 0.25 if options.get("features") == "network" else 0.55
    assert accuracy(strategy.model, benchmark) > floor


@pytest.mark.parametrize("name, network, options", CASES)
def test_a_growing_head_is_the_same_classifier(name, network, options, benchmark):
    x = torch.rand(20, 784)
    single, growing = (
        trained(name, network, options, range(5), benchmark, head).model.eval()
        for head in ("single", "growing")
    )
    assert len(last_layers(growing)[None].layers) == 5
    if options.get("features") == "network":
        return  # its features are drawn with another head beside them
    torch.testing.assert_close(growing(x), single(x), rtol=1e-3, atol=1e-3)


def test_classes_not_seen_yet_never_win(benchmark):
    strategy = trained("ridge_readout", "kan", {"n_features": 30}, [1], benchmark)
    classes = list(benchmark.train_stream)[1].classes_in_this_experience
    outputs = strategy.model.eval()(torch.rand(50, 784))
    assert set(outputs.argmax(1).tolist()) <= set(classes)


def test_ridge_of_a_linear_layer_by_hand(benchmark):
    strategy = trained("ridge_readout", "mlp", {"features": "inputs"}, [0], benchmark)
    experience = list(benchmark.train_stream)[0]
    x = torch.stack([x for x, *_ in experience.dataset]).flatten(1).double()
    y = torch.tensor([y for _, y, *_ in experience.dataset])
    a = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    penalty = 1e-4 * a.square().sum(0).mean() * torch.eye(785, dtype=x.dtype)
    w = torch.linalg.solve(a.T @ a + penalty, a.T @ torch.eye(10, dtype=x.dtype)[y])
    seen = experience.classes_in_this_experience
    found = strategy.model(x.float()).double()[:, seen]
    torch.testing.assert_close(found, (a @ w)[:, seen], rtol=0, atol=2e-3)


def test_nothing_but_the_last_layer_moves_and_draws_depend_on_the_seed(benchmark):
    first = trained("ridge_readout", "mlp", {"n_features": 30}, [0], benchmark)
    again = trained("ridge_readout", "mlp", {"n_features": 30}, [1], benchmark)
    other = trained("ridge_readout", "mlp", {"n_features": 30}, [0], benchmark, seed=1)

    def projection(strategy):
        return strategy.model.network.projection.weight

    assert torch.equal(projection(first), projection(again))
    assert not torch.equal(projection(first), projection(other))


@pytest.mark.parametrize(
    "name, network, options, message",
    [
        ("ridge_readout", "mlp", {"ridge": 0.0}, "ridge must be above 0, not 0.0"),
        ("ridge_readout", "mlp", {"n_features": 0}, "n_features must be at least 1"),
        (
            "spline_bayes",
            "kan",
            {"smoothing": -1.0},
            "smoothing must be above 0, not -1.0",
        ),
        ("spline_bayes", "mlp", {}, "no bases.* use model=kan, .* instead"),
        (
            "spline_bayes",
            "kan",
            {"features": "network"},
            "set model.base=false instead",
        ),
    ],
)
def test_refusals(name, network, options, message, benchmark):
    with pytest.raises(ValueError, match=message):
        trained(name, network, options, [], benchmark)


@pytest.mark.parametrize(
    ("name", "features"),
    [("ridge_readout", "network"), ("nearest_mean", "network")],
)
def test_features_are_those_of_evaluation(name, features, benchmark):
    """Dropout takes part in no solution: with and without it, the same to the bit."""
    found = []
    for dropout in (0.0, 0.5):
        torch.manual_seed(0)
        model = with_head(MLP([784, 30, 10], dropout=dropout), "single", 10)
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        strategy = build(
            name, TrainingSetup(model, sgd, batch_size=16), features=features
        )
        for experience in benchmark.train_stream:
            strategy.train(experience)
        assert model.training
        found.append(model.network.head.weight.detach())
    assert torch.equal(*found)


@pytest.mark.parametrize("features", ["patches", "conv"])
@pytest.mark.parametrize("name", ["ridge_readout", "nearest_mean"])
@pytest.mark.parametrize("shape", [(784,), (1, 14, 56), (4, 14, 14), (14, 56), ()])
def test_inputs_that_are_no_square_grey_images_have_no_patches(name, features, shape):
    model = with_head(MLP([784, 6, 10]), "single", 10)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    setup = TrainingSetup(model, sgd, image_shape=shape)
    says = f"features={features} takes square images of one channel.* shape "
    with pytest.raises(ValueError, match=says + "x".join(map(str, shape))):
        build(name, setup, features=features)
    for other in "inputs", "network":
        model = with_head(MLP([784, 6, 10]), "single", 10)
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        build(name, TrainingSetup(model, sgd, image_shape=shape), features=other)
    for square in None, (28, 28), (1, 28, 28):
        model = with_head(MLP([784, 6, 10]), "single", 10)
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        build(name, TrainingSetup(model, sgd, image_shape=square), features=features)
