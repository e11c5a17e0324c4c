"""From stored bytes to a network's input: scaling, padding, rotation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_ROTATE_AT_ONCE = 4096  # images; bounds the memory that a rotation takes


@dataclass(frozen=True)
class Scaling:
    """``x = (byte / 255 - shift) / divisor``, computed in place and in this order.

    This is torchvision's ``ToTensor`` followed by ``Normalize``, to the bit.
    """

    shift: float
    divisor: float

    def __call__(self, pixels: Tensor) -> Tensor:
        x = pixels.to(torch.float32).div_(255)
        if self.shift != 0 or self.divisor != 1:
            x.sub_(self.shift).div_(self.divisor)
        return x

    @property
    def input_range(self) -> tuple[float, float]:
        """The values that byte 0 and byte 255 become."""
        low, high = self(torch.tensor([0, 255], dtype=torch.uint8)).tolist()
        return low, high


def scaling(normalize: str, mean: float, std: float) -> Scaling:
    """``none``: [0, 1]; ``unit``: [-1, 1]; ``standard``: the data set's mean and std."""
    return {
        "none": Scaling(0.0, 1.0),
        "unit": Scaling(0.5, 0.5),
        "standard": Scaling(mean, std),
    }[normalize]


def pad_images(images: Tensor, pad: int) -> Tensor:
    """Add ``pad`` black pixels on each side of ``(n, height, width)`` images."""
    return F.pad(images, (pad, pad, pad, pad)) if pad else images


def rotate_images(images: Tensor, degrees: float) -> Tensor:
    """Turn ``(n, height, width)`` uint8 images counter-clockwise about their centre.

    Bilinear; rounded to bytes, as the usual rotation of PIL images is; what turns in from
    outside is black.
    """
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import rotate

    turned = [
        rotate(part.unsqueeze(1), degrees, InterpolationMode.BILINEAR).squeeze(1)
        for part in images.split(_ROTATE_AT_ONCE)
    ]
    return torch.cat(turned)
