"""Networks take images as benchmarks give them; flat inputs go through untouched."""

import pytest
import torch

from kancl.models import KAN, MLP
from kancl.models.inputs import flat


@pytest.mark.parametrize("make", [KAN, MLP])
@pytest.mark.parametrize("shape", [(1, 3, 4), (3, 4), (3, 2, 2)])
def test_images_are_flattened(make: type, shape: tuple[int, ...]) -> None:
    network = make([12, 5, 3])
    images = torch.rand(7, *shape)
    expected = network(images.flatten(1))
    torch.testing.assert_close(network(images), expected, rtol=0, atol=0)
    features = network.features(images)
    assert features.equal(network.features(images.flatten(1)))


def test_what_ends_in_the_features_is_passed_on() -> None:
    for shape in [(12,), (7, 12), (7, 5, 12), (12, 12), (0, 12)]:
        x = torch.rand(shape)
        assert flat(x, 12) is x


@pytest.mark.parametrize("make", [KAN, MLP])
def test_another_number_of_values_is_refused(make: type) -> None:
    with pytest.raises((ValueError, RuntimeError), match="12|shapes"):
        make([12, 5, 3])(torch.rand(7, 1, 4, 4))
