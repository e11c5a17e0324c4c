"""How outputs are judged: classes by accuracy, values by root mean square error."""

from collections.abc import Callable
from dataclasses import dataclass

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
        of_samples: outputs, targets -> a number per sample, ``(batch,)``.
        of_mean: what the mean of these becomes.
        rises: whether more is better.
    """

    name: str
    title: str
    loss: Callable[[], nn.Module]
    of_samples: Callable[[Tensor, Tensor], Tensor]
    of_mean: Callable[[Tensor], Tensor]
    rises: bool


def _hits(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.argmax(1) == targets


def _squared_errors(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.squeeze(1) - targets).square()


def _itself(mean: Tensor) -> Tensor:
    return mean


ACCURACY = Score("accuracy", "accuracy", nn.CrossEntropyLoss, _hits, _itself, True)
RMSE = Score("rmse", "RMSE", SquaredError, _squared_errors, torch.sqrt, False)
