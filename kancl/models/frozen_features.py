"""Networks that train their last layer only: raw inputs, or random patches, behind it."""

from math import isqrt
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kancl.models.kan_linear import KANLinear
from kancl.splines import cardinal

PatchFeature = Literal["relu", "spline"]

# Sides of the patches in pixels, norm of a patch's weights, deviation of its threshold:
# chosen on a validation part of MNIST's training set.
SIDES = (8, 10)
SIZE = {"relu": 1.0, "spline": 1.5}
SPREAD = {"relu": 0.05, "spline": 0.5}
DEGREE = 2


class LastLayerOnly(nn.Module):
    """``head`` on fixed ``features``: ``(batch, in_features)`` -> ``(batch, n_outputs)``."""

    in_features: int
    feature_dim: int
    head: nn.Module

    def features(self, x: Tensor) -> Tensor:
        """``(batch, in_features)`` -> ``(batch, feature_dim)``."""
        return x

    def make_head(self, n_outputs: int) -> nn.Module:
        """A fresh last layer."""
        return nn.Linear(self.feature_dim, n_outputs)

    def remove_head(self) -> None:
        del self.head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class RandomPatches(LastLayerOnly):
    """Random features of random square patches, frozen, with a linear layer on top.

    ``phi_k(x) = f(w_k . x - t_k)``, ``w_k`` normal inside the patch, of sum 0 (whatever
    the background's value), and 0 elsewhere; f is ``relu``, or for ``spline`` the bell
    of a quadratic B-spline: a KAN layer that is linear in the pixels, followed by one
    whose every function is one basis. Depends on no data, hence on no order of
    experiences.

    Args:
        in_features: pixels of a square image.
        n_features: how many; the last layer has a bias besides.
        generator: of the random numbers, on the CPU.
    Raises: ValueError if the image is not square or has not room for a patch.
    Source: Coates and Ng 2012, Neural Networks: Tricks of the Trade, 561-580 (random
        patches); McDonnell et al. 2015, arXiv:1412.8307 (patches of random weights).
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
        side = image_side("patches", in_features, SIDES[0])
        self.in_features, self.feature_dim, self.kind = in_features, n_features, kind
        self.projection = nn.Linear(in_features, n_features)
        inside = _patches(n_features, side, generator)
        weight = torch.randn(n_features, in_features, generator=generator) * inside
        weight -= inside * (weight.sum(1) / inside.sum(1)).unsqueeze(1)
        weight *= SIZE[kind] / weight.norm(dim=1, keepdim=True)
        threshold = SPREAD[kind] * torch.randn(n_features, generator=generator)
        with torch.no_grad():
            self.projection.weight.copy_(weight)
            self.projection.bias.copy_(-threshold)
        self.projection.requires_grad_(False)
        self.head = self.make_head(n_outputs)

    def features(self, x: Tensor) -> Tensor:
        z = self.projection(x)
        return z.relu_() if self.kind == "relu" else cardinal(z, DEGREE)


class OneLayer(LastLayerOnly):
    """A layer on the raw inputs: linear, or additive in splines.

    Args:
        like: a layer on the inputs whose kind and grid to take. A KAN layer gets no
            base branch: the bases alone are its features.
    Raises: ValueError for another kind of layer.
    """

    def __init__(self, like: Any, n_outputs: int) -> None:
        super().__init__()
        if not isinstance(like, (nn.Linear, KANLinear)):
            raise ValueError(
                f"a readout of the inputs is known for KAN and Linear layers, got {like}: "
                "set strategy.features=network instead"
            )
        self.in_features = self.feature_dim = like.in_features
        self._options: dict[str, Any] | None = None
        if isinstance(like, KANLinear):
            degree = like.spline_order
            ends = torch.stack([like.grid[:, degree], like.grid[:, -1 - degree]], 1)
            self._options = dict(
                grid_size=like.grid_size,
                spline_order=degree,
                enable_standalone_scale_spline=False,
                grid_range=ends,
                base=False,
                outside="clamp",
                implementation=like.implementation,
            )
        self.head = self.make_head(n_outputs)

    def make_head(self, n_outputs: int) -> nn.Module:
        if self._options is None:
            return super().make_head(n_outputs)
        return KANLinear(self.in_features, n_outputs, **self._options)


def image_side(what: str, in_features: int, least: int) -> int:
    """The side of a square image of so many pixels.

    Raises: ValueError that names ``what`` needs it, if there is none or it is too short.
    """
    side = isqrt(in_features)
    if side**2 != in_features or side < least:
        raise ValueError(
            f"{what} need square images of at least {least}x{least} pixels, got "
            f"{in_features} inputs: set strategy.features=network instead"
        )
    return side


def _patches(n: int, side: int, generator: torch.Generator) -> Tensor:
    """Masks of random patches, ``(n, side * side)``."""
    low, high = SIDES[0], min(SIDES[1], side)
    size = torch.randint(low, high + 1, (n, 1), generator=generator)
    masks = []
    for _ in range(2):
        share = torch.rand(n, 1, generator=generator)
        start = (share * (side - size + 1)).long()
        along = torch.arange(side)
        masks.append((along >= start) & (along < start + size))  # (n, side)
    rows, columns = masks
    return (rows.unsqueeze(2) & columns.unsqueeze(1)).flatten(1).float()
