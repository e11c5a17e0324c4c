"""Closed forms against solvers and counts written out; frozen features."""

import numpy as np
import pytest
import torch
from torch import nn

from kancl import KANLinear
from kancl.models.frozen_features import OneLayer, RandomPatches
from kancl.models.layer_features import constant_weights, layer_features
from kancl.models.readouts import (
    RIDGES,
    FeatureSums,
    best_ridge,
    nearest_mean_weights,
    ridge_weights,
    spline_bayes_weights,
)


def sums_of(features, targets, n_classes, gram=True, portions=1):
    sums = FeatureSums(features.shape[1], n_classes, gram=gram)
    for f, t in zip(features.chunk(portions), targets.chunk(portions)):
        sums.add(f, t)
    return sums


@pytest.fixture
def data():
    targets = torch.randint(3, (2500,))
    centre = torch.randn(3, 6)
    return centre[targets] + torch.randn(2500, 6), targets


def test_ridge_is_penalised_least_squares(data):
    features, targets = data
    found = ridge_weights(sums_of(features, targets, 3, portions=7), 0.1)
    a = features.double().numpy()
    penalty = np.sqrt(0.1 * (a**2).sum(0).mean())
    stacked = np.vstack([a, penalty * np.eye(6)])
    y = np.vstack([np.eye(3)[targets.numpy()], np.zeros((6, 3))])
    expected = np.linalg.lstsq(stacked, y, rcond=None)[0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-10)


def test_any_order_and_portions_give_the_same_to_rounding(data):
    features, targets = data
    found = ridge_weights(sums_of(features, targets, 3), 1e-4)
    by_class = targets.argsort(stable=True).flip(0)
    again = sums_of(features[by_class], targets[by_class], 3, portions=40)
    torch.testing.assert_close(ridge_weights(again, 1e-4), found, rtol=1e-9, atol=1e-11)


def test_the_strength_is_the_best_on_samples_held_out_from_the_others(data):
    features, targets = data[0][:40], data[1][:40]
    noise = torch.randn(
        40, 30
    )  # with so many features, it takes strength to generalise
    features = torch.cat([features, noise], 1)
    held_out = torch.arange(40) % 10 == 9
    others = sums_of(features[~held_out], targets[~held_out], 3)

    def error(ridge):
        found = features[held_out].double() @ ridge_weights(others, ridge)
        wanted = nn.functional.one_hot(targets[held_out], 3)
        return float((found - wanted).square().sum())

    errors = {ridge: error(ridge) for ridge in RIDGES}
    sums = [
        sums_of(features, targets, 3),
        sums_of(features[held_out], targets[held_out], 3),
    ]
    best = best_ridge(*sums)
    assert errors[best] == min(errors.values()) < min(errors[1e-6], errors[1e-5])


def test_nearest_mean_ranks_by_distance(data):
    features, targets = data
    with_one = torch.cat([features, torch.ones(len(features), 1)], 1)
    constant = torch.zeros(7)
    constant[-1] = 1
    sums = sums_of(with_one, targets, 3, gram=False)
    outputs = with_one.double() @ nearest_mean_weights(sums, constant)
    means = torch.stack([features[targets == c].mean(0) for c in range(3)])
    distance = torch.cdist(features, means)
    assert torch.equal(outputs.argmax(1), distance.argmin(1))


def test_spline_bayes_is_naive_bayes_where_bases_are_bins():
    """One basis is 1, all others 0: counts of a categorical naive Bayes."""
    bins, targets = torch.randint(4, (300, 2)), torch.randint(3, (300,))
    features = nn.functional.one_hot(bins, 4).flatten(1).float()
    sums = sums_of(features, targets, 3, gram=False)
    constant = torch.full((8,), 0.5)
    outputs = features.double() @ spline_bayes_weights(sums, 2, 0.5, constant)
    expected = torch.zeros(300, 3, dtype=torch.float64)
    for c in range(3):
        mine = bins[targets == c]
        expected[:, c] = np.log(len(mine) / 300)
        for p in range(2):
            counts = torch.bincount(mine[:, p], minlength=4) + 0.5
            expected[:, c] += (counts / counts.sum()).log()[bins[:, p]]
    expected /= 2  # inputs
    torch.testing.assert_close(
        outputs - outputs[:, :1], expected - expected[:, :1], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("kind", ["relu", "spline"])
def test_patches_are_frozen_and_the_same_for_the_same_seed(kind):
    def make(seed):
        generator = torch.Generator().manual_seed(seed)
        return RandomPatches(784, 10, 50, kind, generator)

    x = torch.rand(5, 784)
    first, again, other = make(0), make(0), make(1)
    assert torch.equal(first.features(x), again.features(x))
    assert not torch.equal(first.features(x), other.features(x))
    # whatever the background is, as far as float32 goes
    torch.testing.assert_close(
        first.features(x + 1), first.features(x), rtol=0, atol=1e-5
    )
    assert first(x).shape == (5, 10) and first.features(x).std() > 0.05
    assert not any(p.requires_grad for p in first.projection.parameters())
    inside = (first.projection.weight != 0).view(50, 28, 28)
    for mask in inside:
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        side = int(rows.max() - rows.min()) + 1
        assert side == int(columns.max() - columns.min()) + 1
        assert side in (8, 9, 10) and int(mask.sum()) == side**2


def test_patches_need_images():
    with pytest.raises(ValueError, match="got 10 inputs.*features=network instead"):
        RandomPatches(10, 2, 5, "relu", torch.Generator())


def test_one_layer_takes_kind_and_grid():
    like = KANLinear(4, 9, 7, 2, grid_range=(0, 3), anchor=0.0)
    splines = OneLayer(like, 3)
    assert isinstance(splines.head, KANLinear)
    torch.testing.assert_close(splines.head.grid, like.grid)
    assert splines.head.base_weight is None and splines.head.anchor is None
    x = 5 * torch.rand(6, 4)
    one = layer_features(splines.head, x) @ constant_weights(splines.head)
    torch.testing.assert_close(one, torch.ones(6))
    assert torch.equal(splines(x), splines.head(x))
    assert isinstance(OneLayer(nn.Linear(4, 9), 3).head, nn.Linear)
    with pytest.raises(ValueError, match="KAN and Linear layers, got Conv2d"):
        OneLayer(nn.Conv2d(1, 1, 1), 3)
