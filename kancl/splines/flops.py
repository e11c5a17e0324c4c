"""What splines cost, told to torch's counters of floating-point operations."""

from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from kancl.splines import modes


def basis_flops(degree: int) -> int:
    """Floating-point operations for all bases at one value: 3 for each round and live basis."""
    return 3 * (degree + 1) ** 2


def counted(values: Tensor, flops: int) -> Tensor:
    """``values``; where someone counts, ``flops`` are added for each row of them.

    Args:
        flops: that each ``values[..., :]`` took beside products of matrices, which are
            counted by torch.
    """
    if not modes.graph() and modes.dispatch_modes():
        return _counted(values, flops)
    return values


@torch.library.custom_op("kancl::counted", mutates_args=())
def _counted(values: Tensor, flops: int) -> Tensor:
    return values.clone()


_counted.register_fake(lambda values, flops: values.clone())
_counted.register_autograd(lambda ctx, grad: (grad, None))


@register_flop_formula(torch.ops.kancl.counted)
def _formula(shape: Any, flops: int, **_: Any) -> int:
    return flops * prod(shape[:-1])
