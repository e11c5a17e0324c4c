"""From stored values to what a network is fed."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from kancl.data.arrays import Arrays

Normalize = Literal["none", "unit", "standard"]

_AT_ONCE = 4096  # samples; bounds the memory that a deviation takes


@dataclass(frozen=True, eq=False)
class Scaling:
    """``(value / largest - shift) / divisor``: torchvision's transforms, to the bit.

    Args:
        shift, divisor: numbers, or tensors ``(in_features,)``.
        largest: 255 for bytes, 1 for other numbers.
    """

    shift: float | Tensor
    divisor: float | Tensor
    largest: float = 255

    def __call__(self, values: Tensor) -> Tensor:
        x = values.to(torch.float32, copy=True).div_(self.largest)
        if isinstance(self.shift, Tensor) or (self.shift, self.divisor) != (0, 1):
            x.sub_(self.shift).div_(self.divisor)
        return x

    def to(self, device: str | torch.device) -> "Scaling":
        if not isinstance(self.shift, Tensor) or not isinstance(self.divisor, Tensor):
            return self
        return replace(
            self, shift=self.shift.to(device), divisor=self.divisor.to(device)
        )

    @property
    def byte_range(self) -> tuple[float, float]:
        """The lowest and highest of the values that bytes 0 and 255 become."""
        n = self.shift.shape[0] if isinstance(self.shift, Tensor) else 1
        ends = torch.tensor([[0], [255]], dtype=torch.uint8).expand(2, n)
        low, high = self(ends)
        return low.min().item(), high.max().item()


def scaling(normalize: str, arrays: Arrays, shape: tuple[int, ...]) -> Scaling:
    """How a data set's values are scaled.

    Bytes become ``none``: [0, 1]; ``unit``: [-1, 1]; ``standard``: mean 0 and standard
    deviation 1 of the training values, per channel of images, else per feature. Other
    numbers stay as they are with ``none``, and ``unit`` takes the ends of each channel
    or feature over the training values. A feature that never varies is only shifted.

    Args:
        shape: of an input as it is fed, such as that of a padded image.
    """
    largest = 255.0 if arrays.is_bytes else 1.0
    if normalize == "none":
        return Scaling(0.0, 1.0, largest)
    if normalize == "unit" and arrays.is_bytes:
        return Scaling(0.5, 0.5)
    if normalize == "standard" and arrays.mean is not None:
        return Scaling(arrays.mean, arrays.std or 1.0)
    x = arrays.train_x.numpy()
    axes = (0, 2, 3) if arrays.is_images else 0
    if normalize == "unit":
        low, high = (end.astype(np.float64) for end in (x.min(axes), x.max(axes)))
        shift, divisor = (low + high) / 2, (high - low) / 2
    else:
        shift = x.mean(axes, dtype=np.float64, keepdims=True)
        parts = np.array_split(x, len(x) // _AT_ONCE + 1)
        squares = sum(((part - shift) ** 2).sum(axes) for part in parts)
        divisor = np.sqrt(squares * shift.size / x.size) / largest
        shift = shift.reshape(divisor.shape) / largest
    divisor = np.where(divisor > 0, divisor, 1)
    each = [torch.from_numpy(v).to(torch.float32) for v in (shift, divisor)]
    if arrays.is_images:  # each channel's, for all of its pixels
        each = [v.repeat_interleave(shape[1] * shape[2]) for v in each]
    return Scaling(each[0].flatten(), each[1].flatten(), largest)
