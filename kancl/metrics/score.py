"""How outputs are judged: classes by accuracy, values by root mean square error."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor, nn


class SquaredError(nn.Module):
    """Mean squared error of a network with one output.

    Shape: ``(batch, 1)``, ``(batch,)`` -> ``()``.
    """

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return _squared_errors(outputs, targets).mean()


@dataclass(frozen=True)
class Score:
    """What stands for how well a network does.

    Args:
        name: in the names of measurements, ``test_<name>``.
        title: for readers.
        loss: what is trained on.
        per_sample: outputs, targets -> a number per sample, ``(batch,)``.
        reduce: what the mean of these becomes.
        largest: no score lies above it; none lies below 0.
    """

    name: str
    title: str
    higher_is_better: bool
    loss: Callable[[], nn.Module]
    per_sample: Callable[[Tensor, Tensor], Tensor]
    reduce: Callable[[Tensor], Tensor]
    largest: float


def _hits(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.argmax(1) == targets


def _squared_errors(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.squeeze(1) - targets).square()


def _identity(mean: Tensor) -> Tensor:
    return mean


ACCURACY = Score(
    "accuracy", "accuracy", True, nn.CrossEntropyLoss, _hits, _identity, 1.0
)
RMSE = Score("rmse", "RMSE", False, SquaredError, _squared_errors, torch.sqrt, inf)
