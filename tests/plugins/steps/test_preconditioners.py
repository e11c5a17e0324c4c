"""Shrunk steps: their matrices by hand, and what they keep of old outputs."""

import pytest
import torch
from torch import nn

from kancl import KAN, KANLinear
from kancl.models import MLP
from kancl.models.heads import with_head
from kancl.models.layer_features import (
    input_blocks,
    inputs_group,
    layer_features,
    set_weights,
    weight_rows,
)
from kancl.plugins.steps.preconditioners import (
    BlockGram,
    DiagonalOccupancy,
    FullGram,
    LowRankGram,
)
from kancl.plugins.steps.step_preconditioner import GramPlugin


def observed(preconditioner, *experiences):
    for features in experiences:
        for chunk in features.split(7):
            preconditioner.observe(chunk)
        preconditioner.close()
    return preconditioner


def test_full_gram_is_the_inverse_written_out():
    first, second = torch.randn(30, 5), torch.randn(20, 5)
    found = observed(FullGram(3.0), first, second)
    c = first.T @ first / 30 + second.T @ second / 20
    step = torch.randn(5, 4)
    expected = torch.linalg.inv(torch.eye(5) + 3 * c) @ step
    torch.testing.assert_close(found.shrink(step), expected)


@pytest.mark.parametrize("size, degree", [(1, 1), (5, 3)])
def test_the_redundant_basis_of_an_anchored_layer_needs_no_place(size, degree):
    layer = KANLinear(
        6,
        4,
        size,
        degree,
        enable_standalone_scale_spline=False,
        base=False,
        anchor=0.1,
    )
    group = inputs_group(layer)
    assert group == size + degree
    features = layer_features(layer, 2 * torch.rand(80, 6) - 1)
    step = torch.randn(6 * group, 4)
    full = observed(FullGram(5.0), features)
    reduced = observed(FullGram(5.0, group), features)
    assert len(reduced.inverse) == 6 * (group - 1)
    torch.testing.assert_close(reduced.shrink(step), full.shrink(step))
    off_grid = observed(FullGram(5.0, group), layer_features(layer, torch.randn(80, 6)))
    assert len(off_grid.inverse) == 6 * group  # bases fade there: none is redundant


def test_a_shrunk_step_is_the_minimum_it_claims_to_be():
    """Of ``|D - step|^2 + beta E|phi D|^2``: its gradient is 0 there."""
    features, step = torch.randn(40, 5), torch.randn(5, 3)
    shrunk = observed(FullGram(2.0), features).shrink(step)
    c = features.T @ features / 40
    torch.testing.assert_close(shrunk - step + 2 * c @ shrunk, torch.zeros(5, 3))


@pytest.mark.parametrize(
    "layer",
    [
        KANLinear(3, 2, 2, 2, enable_standalone_scale_spline=False),
        KANLinear(3, 2, 2, 1, enable_standalone_scale_spline=False, base=False),
        nn.Linear(3, 2),
        nn.Linear(3, 2, bias=False),
    ],
)
def test_blocks_are_the_full_matrix_without_the_rest(layer):
    features = layer_features(layer, torch.rand(50, 3))
    blocks = input_blocks(layer)
    rows = torch.cat([b.flatten() for b in blocks])
    assert sorted(rows.tolist()) == list(range(features.shape[1]))  # each once
    # moving one input moves the features of its own block only
    x = torch.rand(1, 3)
    for i in range(3):
        other = x.clone()
        other[0, i] += 0.3
        changed = layer_features(layer, other) != layer_features(layer, x)
        assert set(changed[0].nonzero().flatten().tolist()) <= set(
            blocks[0][i].tolist()
        )
    mask = torch.zeros(features.shape[1], features.shape[1])
    for group in blocks:
        for block in group:
            mask[block.unsqueeze(1), block] = 1
    c = features.T @ features / 50 * mask
    step = torch.randn(features.shape[1], 2)
    expected = torch.linalg.inv(torch.eye(len(c)) + 4 * c) @ step
    found = observed(BlockGram(4.0, blocks), features).shrink(step)
    torch.testing.assert_close(found, expected)


def test_low_rank_is_the_full_matrix_if_the_rank_suffices():
    first, second = torch.randn(30, 3) @ torch.randn(3, 9), torch.randn(25, 2, 9).sum(1)
    step = torch.randn(9, 4)
    full = observed(FullGram(3.0), first, second).shrink(step)
    torch.testing.assert_close(
        observed(LowRankGram(3.0, 9), first, second).shrink(step),
        full,
        rtol=1e-4,
        atol=1e-5,
    )


def test_low_rank_keeps_the_largest_directions():
    axes, sizes = torch.eye(5), torch.tensor([9.0, 5.0, 3.0, 0.1, 0.01])
    found = observed(LowRankGram(2.0, 3), axes * sizes)
    squares = sizes.square() / 5  # mean over the five samples
    expected = 1 / (1 + 2 * squares)
    expected[3:] = 1
    torch.testing.assert_close(found.shrink(torch.eye(5)), expected.diag())
    assert found.rows.shape == (3, 5)


def test_diagonal_occupancy_by_hand():
    features = torch.tensor([[1.0, -3.0], [1.0, -3.0]])  # mean sizes 1, 3; o = 0.5, 1.5
    found = observed(DiagonalOccupancy(2.0), features, features)
    step = torch.ones(2, 1)
    torch.testing.assert_close(
        found.shrink(step).flatten(), torch.tensor([1 / (1 + 2 * 1), 1 / (1 + 2 * 3)])
    )


def test_a_large_beta_keeps_old_outputs_and_still_lets_new_ones_move():
    layer = KANLinear(4, 3, 5, 2, enable_standalone_scale_spline=False, base=False)
    old, new = torch.rand(30, 4) - 1, torch.rand(30, 4)  # on either half of the grid
    gram = observed(FullGram(1e6), layer_features(layer, old))
    before_old, before_new = layer(old).detach(), layer(new).detach()
    weights = layer.coefficients.detach().view(-1, 3)
    set_weights(layer, weights + gram.shrink(torch.randn_like(weights)))
    moved_old = (layer(old) - before_old).abs().max()
    moved_new = (layer(new) - before_new).abs().max()
    assert moved_old < 0.01 < 0.1 < moved_new


@pytest.mark.parametrize(
    "make",
    [
        lambda: KAN([6, 5, 4], 3, 2, enable_standalone_scale_spline=False),
        lambda: MLP([6, 5, 4]),
    ],
)
class TestPlugin:
    @staticmethod
    def strategies(make, naive, **options):
        found = []
        for beta in (0.0, 5.0):
            torch.manual_seed(0)
            plugin = GramPlugin(beta_input=beta, beta_hidden=2 * beta, **options)
            model = with_head(make(), "single", 4)
            found.append((plugin, naive(model, plugin)))
        return found

    def test_steps_are_those_of_sgd_times_the_inverse(
        self, make, naive, points_benchmark
    ):
        """One full batch of the second experience, gradients taken by autograd."""
        stream = points_benchmark("domain", 2, n=8).train_stream
        [_, (plugin, strategy)] = self.strategies(make, naive)
        strategy.train(stream[0])
        layers = dict(strategy.model.named_modules())
        assert list(plugin.preconditioners) == ["network.layers.0", "network.layers.1"]
        betas = [p.beta for p in plugin.preconditioners.values()]
        assert betas == [5.0, 10.0]
        x = torch.stack([x for x, *_ in stream[1].dataset])
        y = torch.tensor([y for _, y, *_ in stream[1].dataset])
        strategy.model.zero_grad()
        nn.functional.cross_entropy(strategy.model(x), y).backward()
        expected = {}
        for name, gram in plugin.preconditioners.items():
            rows = list(weight_rows(layers[name], lambda p: p.data).values())
            grads = list(weight_rows(layers[name], lambda p: p.grad).values())
            expected[name] = torch.cat(rows) - 0.1 * gram.inverse @ torch.cat(grads)
        strategy.train(stream[1])
        for name, weights in expected.items():
            rows = list(weight_rows(layers[name], lambda p: p.data).values())
            torch.testing.assert_close(torch.cat(rows), weights)

    def test_beta_0_is_naive_and_beta_5_drifts_less(
        self, make, naive, points_benchmark
    ):
        stream = points_benchmark("domain", 2, n=160).train_stream
        x = torch.stack([x for x, *_ in stream[0].dataset])
        drifts = []
        for _, strategy in self.strategies(make, naive):
            strategy.train(stream[0])
            before = strategy.model(x).detach()
            strategy.train(stream[1])
            drifts.append(float((strategy.model(x) - before).detach().abs().mean()))
        torch.manual_seed(0)
        plain = naive(with_head(make(), "single", 4))
        plain.train(stream[0])
        before = plain.model(x).detach()
        plain.train(stream[1])
        drift = float((plain.model(x) - before).detach().abs().mean())
        assert drifts[0] == pytest.approx(drift, rel=1e-3)
        assert drifts[1] < 0.8 * drifts[0]

    def test_samples_are_drawn_apart_from_training(self, make, naive, points_benchmark):
        stream = points_benchmark("domain", 2).train_stream
        models = []
        for n_samples in (5, None):
            _, (plugin, strategy) = self.strategies(
                make, naive, feature_samples=n_samples
            )
            strategy.train(stream[0])
            assert strategy.model.training
            models.append(strategy.model.state_dict())
        for name, value in models[0].items():
            assert torch.equal(value, models[1][name])
