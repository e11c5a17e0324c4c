"""Random filters as a convolution, frozen, with a linear layer on top."""

import torch
from torch import Tensor, nn

from kancl.models.frozen_features import LastLayerOnly, PatchFeature, image_side

SIDE, WINDOW, STRIDE = 9, 8, 6
"""Side of a filter, and side and step of the pooling windows, in pixels; chosen, like the
numbers below, on held-out training images of MNIST."""
BINOMIAL = 0.25, 0.5, 0.25
"""Weights of an entry's neighbours and of itself, along rows and columns."""
BUMPS = {"relu": 1, "spline": 2}
"""Features of each filter and window."""
NORM = {"relu": 2.0, "spline": 4.0}
SPREAD = {"relu": 0.7, "spline": 0.3}
"""Norm of a filter's weights and deviation of its threshold."""


class RandomFilters(LastLayerOnly):
    """Pooled responses to random filters, each at all places of a square image.

    A filter is 9x9, normal, each weight mixed with its neighbours (binomial, 3x3), of
    sum 0. What it gives goes through ``relu``, or for ``spline`` through the two linear
    B-splines ``1 - |u|`` and ``max(u, 0)`` of ``u = tanh(0.7 z)``; then the mean over
    windows of 8x8, 6 apart, is taken. The features depend on no data, hence on no order
    of experiences. They know which pixels are neighbours: on permuted pixels they are of
    little use.

    Args:
        in_features: pixels of a square image.
        n_features: at most so many; a whole number of filters is taken.
        generator: of the random numbers, on the CPU.
    Raises: ValueError if the image is not square or has not room for a filter, or if
        not one filter fits into ``n_features``.
    Source: Coates and Ng 2012, Neural Networks: Tricks of the Trade, 561-580, with
        random filters as in Saxe et al. 2011, ICML.
    """

    def __init__(
        self,
        in_features: int,
        n_outputs: int,
        n_features: int,
        kind: PatchFeature,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        side, windows = _places(in_features)
        bumps = BUMPS[kind]
        n_filters = n_features // (windows * bumps)
        if n_filters < 1:
            raise ValueError(
                f"strategy.n_features={n_features} is less than the {windows * bumps} "
                "that one filter gives: set at least that many"
            )
        self.in_features, self.kind, self._side = in_features, kind, side
        self.feature_dim = n_filters * windows * bumps
        self.filters = nn.Conv2d(1, n_filters, SIDE)
        noise = torch.randn(n_filters, 1, SIDE + 2, SIDE + 2, generator=generator)
        smooth = torch.tensor(BINOMIAL).outer(torch.tensor(BINOMIAL))
        weight = nn.functional.conv2d(noise, smooth.view(1, 1, 3, 3))
        weight -= weight.mean((2, 3), keepdim=True)
        weight *= NORM[kind] / weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        threshold = SPREAD[kind] * torch.randn(n_filters, generator=generator)
        with torch.no_grad():
            self.filters.weight.copy_(weight)
            self.filters.bias.copy_(threshold)  # type: ignore[union-attr]
        self.filters.requires_grad_(False)
        self.head = self.make_head(n_outputs)

    @property
    def response_flops(self) -> int:
        """Floating-point operations of the filters on an image, 2 per multiply-add."""
        return 2 * self.filters.weight.numel() * (self._side - SIDE + 1) ** 2

    def features(self, x: Tensor) -> Tensor:
        z = self.filters(x.view(-1, 1, self._side, self._side))
        if self.kind == "relu":
            bumps = z.relu_()
        else:
            u = torch.tanh(0.7 * z)
            bumps = torch.cat([1 - u.abs(), u.clamp(min=0)], 1)
        pooled: Tensor = nn.functional.avg_pool2d(bumps, WINDOW, STRIDE)
        return pooled.flatten(1)


def numbers_at_once(in_features: int, kind: PatchFeature) -> int:
    """How many numbers each feature of an image takes while it is made: those of the
    responses at all places, and of what they turn into.

    Raises: ValueError as ``RandomFilters``.
    """
    side, windows = _places(in_features)
    responses: int = (side - SIDE + 1) ** 2
    maps = 2 if kind == "relu" else 6
    return maps * responses // (windows * BUMPS[kind])


def _places(in_features: int) -> tuple[int, int]:
    """An image's side, and how many windows it has."""
    least = SIDE + WINDOW - 1
    side = image_side("filters", in_features, least)
    return side, ((side - least) // STRIDE + 1) ** 2
