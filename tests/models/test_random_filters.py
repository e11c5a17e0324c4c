"""Random filters against their formula, written out for one window of one filter."""

import pytest
import torch

from kancl.models.random_filters import RandomFilters


def make(kind, seed=0, n_features=100):
    generator = torch.Generator().manual_seed(seed)
    return RandomFilters(784, 10, n_features, kind, generator)


@pytest.mark.parametrize("kind", ["relu", "spline"])
def test_features_are_means_over_windows_of_responses_everywhere(kind):
    found, x = make(kind), torch.rand(3, 784)
    features, image = found.features(x), x[1].view(28, 28)
    bumps = 1 if kind == "relu" else 2
    n_filters = 100 // (9 * bumps)  # whole filters, 3x3 windows each
    assert features.shape == (3, n_filters * 9 * bumps)
    assert found.feature_dim == features.shape[1] and found(x).shape == (3, 10)
    k, row, column = 2, 1, 2  # the second row of windows, the last column
    weight, threshold = found.filters.weight[k, 0], found.filters.bias[k]
    expected = torch.zeros(bumps)
    for i in range(6 * row, 6 * row + 8):
        for j in range(6 * column, 6 * column + 8):
            z = (weight * image[i : i + 9, j : j + 9]).sum() + threshold
            u = torch.tanh(0.7 * z)
            responses = [z.relu()] if kind == "relu" else [1 - u.abs(), u.relu()]
            expected += torch.stack(responses) / 64
    actual = features[1].view(bumps, n_filters, 3, 3)[:, k, row, column]
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_they_are_made_in_double_precision_where_that_is_the_default():
    torch.set_default_dtype(torch.float64)
    try:
        found = make("spline")
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.filters.weight.dtype == torch.float64
    torch.testing.assert_close(
        found.filters.weight.sum((2, 3)), torch.zeros(5, 1).double(), atol=1e-12, rtol=0
    )


def test_a_weight_is_like_its_neighbours():
    """Mixed by 1/4, 1/2, 1/4 along rows: neighbours of normal noise correlate by 2/3."""
    weight = make("relu", n_features=9 * 2000).filters.weight.flatten(0, 1)
    weight = weight - weight.mean(0)
    beside = (weight[:, :, 1:] * weight[:, :, :-1]).mean() / weight.square().mean()
    assert 0.6 < beside < 0.7


def test_they_are_frozen_and_the_same_for_the_same_seed():
    x = torch.rand(2, 784)
    first, again, other = make("relu"), make("relu"), make("relu", seed=1)
    assert torch.equal(first.features(x), again.features(x))
    assert not torch.equal(first.features(x), other.features(x))
    assert {n for n, p in first.named_parameters() if p.requires_grad} == {
        "head.weight",
        "head.bias",
    }
    # a filter's weights add up to 0: the background's value counts for nothing
    torch.testing.assert_close(
        first.features(x + 1), first.features(x), atol=1e-5, rtol=0
    )


def test_other_inputs_than_square_images_and_too_few_features_are_refused():
    with pytest.raises(ValueError, match="16x16 pixels, got 10 inputs.*=network"):
        RandomFilters(10, 2, 500, "relu", torch.Generator())
    with pytest.raises(ValueError, match="n_features=17 is less than the 18"):
        make("spline", n_features=17)
