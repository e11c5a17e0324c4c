"""Orthogonal weight modification: its projector by hand, and what it turns into at the ends."""

import pytest
import torch
from avalanche.core import SupervisedPlugin
from torch import nn

from kancl import KAN, KANLinear
from kancl.models import MLP
from kancl.models.heads import with_head
from kancl.models.layer_features import inputs_group, layer_features
from kancl.plugins.plugin import Diverged
from kancl.plugins.rehearsal.replay import ReplayPlugin
from kancl.plugins.steps.frozen import LazyStepsPlugin
from kancl.plugins.steps.owm import BlockProjector, OWMPlugin, Projector


def projector(features, by_sample=False, group=None, alpha=0.5, decay=1.0):
    found = Projector(alpha, decay, by_sample, group)
    for chunk in features.split(10):
        found.observe(chunk)
    return found


def anchored():
    return KANLinear(
        6, 4, 5, 3, enable_standalone_scale_spline=False, base=False, anchor=0.1
    )


def test_the_projector_is_the_published_recursion():
    """Zeng et al. 2019, methods, eq. 1-4: P from the mean feature of every batch."""
    features, step = torch.randn(60, 5).double(), torch.randn(5, 3).double()
    found = Projector(0.9, 0.01, False, None)
    p = torch.eye(5).double()
    for k, chunk in enumerate(features.split(10)):
        found.share = k / 6
        found.observe(chunk)
        r = chunk.mean(0)
        direction = p @ r
        p = p - direction.outer(direction) / (0.9 * 0.01 ** (k / 6) + r @ direction)
    torch.testing.assert_close(found.shrink(step), p @ step)
    assert torch.equal(found.matrix, found.matrix.T)


def test_each_sample_by_itself_is_the_inverse_of_their_products():
    features, step = torch.randn(60, 5).double(), torch.randn(5, 3).double()
    found = projector(features, by_sample=True, alpha=2.0)
    expected = torch.linalg.inv(torch.eye(5).double() + features.T @ features / 2)
    torch.testing.assert_close(found.shrink(step), expected @ step)
    assert torch.equal(found.matrix, found.matrix.T)


@pytest.mark.slow
def test_what_was_seen_ten_thousand_times_is_spared_in_single_precision():
    """Against the same in float64: rounding lets no more of a step through than it does."""
    means = (torch.rand(4, 100) * (torch.rand(4, 100) < 0.5)).double()
    left = []
    for dtype in (torch.float32, torch.float64):
        generator = torch.Generator().manual_seed(0)
        found = Projector(0.9, 0.001, False, None)
        for mean in means:
            for k in range(2500):
                found.share = k / 2500
                noise = torch.randn(100, generator=generator) * (mean > 0)
                found.observe((mean + 0.1 * noise).to(dtype)[None])
        seen = means.T.to(dtype)
        left.append((seen.T @ found.shrink(seen)).double().diagonal())
    torch.testing.assert_close(*left, rtol=0.02, atol=0)


@pytest.mark.parametrize("by_sample", [False, True])
def test_the_redundant_basis_of_an_anchored_layer_needs_no_place(by_sample):
    layer = anchored().double()
    on_grid = layer_features(layer, 2 * torch.rand(80, 6).double() - 1)
    beyond = layer_features(layer, 3 * torch.randn(30, 6).double())
    step = torch.randn(6 * 8, 4).double()
    group = inputs_group(layer)
    for features in (on_grid, torch.cat([on_grid, beyond])):
        reduced = projector(features, by_sample, group)
        torch.testing.assert_close(
            reduced.shrink(step), projector(features, by_sample).shrink(step)
        )
    assert len(projector(on_grid, by_sample, group).matrix) == 6 * 7
    assert len(reduced.matrix) == 6 * 8  # bases fade there: none is redundant


def test_blocks_are_projectors_of_their_own_features():
    features, step = torch.randn(60, 7).double(), torch.randn(7, 3).double()
    found = BlockProjector([Projector(0.9, 0.01, False, None) for _ in range(3)], 3)
    own = [Projector(0.9, 0.01, False, None) for _ in range(3)]
    for k, chunk in enumerate(features.split(10)):
        found.share = k / 6
        found.observe(chunk)
        for part, block in zip(own, chunk.split(3, 1)):
            part.share = k / 6
            part.observe(block)
    expected = torch.block_diag(*(part.matrix for part in own)) @ step
    torch.testing.assert_close(found.shrink(step), expected)


@pytest.mark.parametrize("by_sample", [False, True])
def test_features_that_grow_without_bound_are_a_divergence(by_sample):
    found = Projector(1e-9, 1.0, by_sample, None)
    with pytest.raises(Diverged, match="lower optimizer.lr, scale inputs"):
        for power in range(0, 40, 4):  # beyond float32's largest number in the end
            found.observe(torch.rand(30, 5) * 10.0**power)


@pytest.mark.parametrize(
    ("layer", "block_size", "size", "n_blocks"),
    [
        (nn.Linear(6, 4), 7, 7, 1),
        (nn.Linear(6, 4), 100, 7, 1),
        (nn.Linear(6, 4), 3, 3, 3),
        (anchored(), 20, 16, 3),
        (anchored(), 1, 8, 6),
    ],
)
def test_the_bases_of_an_input_stay_in_one_block(layer, block_size, size, n_blocks):
    found = OWMPlugin(block_size=block_size).make(layer, first=True)
    assert (found.size, len(found.parts)) == (size, n_blocks)


def test_alpha_is_that_of_the_layers_place(naive, points_benchmark):
    keys = dict(alpha_input=3.0, alpha_hidden=2.0, alpha_hidden_decay=0.1)
    own = dict(alpha_output=1.0, alpha_output_decay=0.5)
    for more, last in ({}, (2.0, 0.1)), (own, (1.0, 0.5)):
        owm = OWMPlugin(**keys, **more)
        strategy = naive(with_head(MLP([6, 5, 4, 6]), "single", 6), owm)
        strategy.train(points_benchmark().train_stream[0])
        found = [(p.alpha, p.decay) for p in owm.preconditioners.values()]
        assert found == [(3.0, 0.001), (2.0, 0.1), last]


def test_every_head_is_a_last_layer_where_batches_have_several_tasks(
    naive, points_benchmark
):
    owm = OWMPlugin(alpha_output=1.0)
    model = with_head(MLP([6, 5, 2]), "multi", 2)
    strategy = naive(model, ReplayPlugin(mem_size=20), owm)
    for experience in points_benchmark("task").train_stream:
        strategy.train(experience)
    found = {key: p.alpha for key, p in owm.preconditioners.items()}
    assert found == {
        "network.layers.0": 0.9,
        **{f"heads.{task}": 1.0 for task in range(3)},
    }


@pytest.mark.parametrize("network", [KAN([6, 5, 6]), MLP([6, 5, 6])])
def test_without_bound_on_alpha_it_is_plain_training_to_the_bit(
    network, naive, points_benchmark
):
    if isinstance(network, KAN):
        network = KAN([6, 5, 6], enable_standalone_scale_spline=False)
    start = {key: value.clone() for key, value in network.state_dict().items()}
    ends = []
    for plugins in ([], [OWMPlugin(alpha_input=1e300, alpha_hidden=1e300)]):
        network.load_state_dict(start)
        torch.manual_seed(0)
        strategy = naive(with_head(network, "single", 6), *plugins)
        for experience in points_benchmark().train_stream:
            strategy.train(experience)
        ends.append([p.detach().clone() for p in network.parameters()])
    assert all(map(torch.equal, *ends))
    assert not all(map(torch.equal, ends[0], (start[k] for k in start)))


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_momentum_joins_projected_gradients_but_weights_decay_in_the_step(
    naive, points_benchmark, weight_decay
):
    """Zeng et al. 2019, methods: ``V <- 0.9 V + P gradient``, ``W <- W - lr V``."""
    batches = []

    class Batches(SupervisedPlugin):
        def before_update(self, strategy, **kwargs):
            batches.append((strategy.mb_x.double(), strategy.mb_y))

    layer = nn.Linear(6, 6).double()
    plugins = Batches(), OWMPlugin(alpha_input=0.5, alpha_input_decay=1.0)
    strategy = naive(nn.Sequential(nn.Flatten(), layer), *plugins)
    strategy.optimizer = torch.optim.SGD(
        layer.parameters(), lr=0.1, momentum=0.9, weight_decay=weight_decay
    )
    layer.register_forward_pre_hook(lambda m, x: (x[0].double(),))
    weights = torch.cat([layer.weight.detach().T, layer.bias.detach()[None]])
    strategy.train(points_benchmark().train_stream[0])

    velocity, p = torch.zeros_like(weights), torch.eye(7).double()
    for x, y in batches:
        features = torch.cat([x, x.new_ones(len(x), 1)], 1)
        wrong = (features @ weights).softmax(1) - nn.functional.one_hot(y, 6)
        gradient = features.T @ wrong / len(x)
        r = features.mean(0)
        k = p @ r
        p = p - k.outer(k) / (0.5 + r @ k)
        if weight_decay:
            velocity = 0.9 * velocity + gradient + weight_decay * weights
            weights = weights - 0.1 * p @ velocity
        else:
            velocity = 0.9 * velocity + p @ gradient
            weights = weights - 0.1 * velocity
    assert len(batches) == 3
    torch.testing.assert_close(layer.weight.T, weights[:-1])
    torch.testing.assert_close(layer.bias, weights[-1])


def test_a_linear_layer_is_trained_by_recursive_least_squares(naive, points_benchmark):
    """With squared errors, rate 1 / alpha and weights from 0: ridge regression on all so far."""
    layer = nn.Linear(6, 2, bias=False).double()
    nn.init.zeros_(layer.weight)

    def half_squares(outputs, targets):
        wanted = nn.functional.one_hot(targets, 2).double()
        return (outputs - wanted).square().sum() / 2

    network = nn.Sequential(nn.Flatten(), layer)
    strategy = naive(
        network,
        OWMPlugin(by_sample=True, alpha_input=3.0, alpha_input_decay=1.0),
        lr=1 / 3.0,
        criterion=half_squares,
    )
    seen = []
    for experience in points_benchmark("domain").train_stream:
        for sample in experience.dataset:
            seen.append((sample[0].double(), sample[1]))
        strategy.model.register_forward_pre_hook(lambda m, x: (x[0].double(),))
        strategy.train(experience)
        x = torch.stack([x for x, _ in seen])
        y = nn.functional.one_hot(torch.tensor([int(y) for _, y in seen]), 2).double()
        ridge = torch.linalg.solve(x.T @ x + 3.0 * torch.eye(6).double(), x.T @ y)
        torch.testing.assert_close(layer.weight.T, ridge)


@pytest.mark.parametrize(
    ("kind", "momentum", "lazy"),
    [
        (MLP, 0.0, False),
        (MLP, 0.9, False),
        (KAN, 0.9, False),
        (KAN, 0.0, True),
        (KAN, 0.9, True),
    ],
)
def test_what_a_first_experience_taught_stays_while_a_second_is_learned(
    naive, points_benchmark, kind, momentum, lazy
):
    """Also where idle coefficients are put back after each step: P comes last."""
    keys = {"enable_standalone_scale_spline": False, "grid_size": 20}
    keys = keys if kind is KAN else {}
    kept = []
    owm = OWMPlugin(alpha_input=1e-3, alpha_input_decay=1.0)
    for plugins in ([], [owm]):
        torch.manual_seed(0)
        if lazy:
            plugins = [LazyStepsPlugin(), *plugins]
        strategy = naive(with_head(kind([6, 6], **keys), "single", 6), *plugins)
        strategy.optimizer = torch.optim.SGD(
            strategy.model.parameters(), lr=0.1, momentum=momentum
        )
        first, second, _ = points_benchmark(n=16).train_stream
        strategy.train(first)
        strategy.optimizer.state.clear()
        x = torch.stack([x for x, *_ in first.dataset])
        before = strategy.model(x).detach().mean(0)
        strategy.train(second)
        kept.append(float((strategy.model(x).detach().mean(0) - before).norm()))
    assert kept[1] < 1e-3 * kept[0]
