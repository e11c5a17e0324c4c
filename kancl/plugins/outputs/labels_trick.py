"""The labels trick: a loss over the classes that are in the batch."""

from __future__ import annotations

from torch import Tensor, nn


class PresentClassesLoss(nn.Module):
    """In training, a criterion over the outputs of the classes in the batch alone.

    Outputs of absent classes get no gradient, so new classes don't push old ones down.
    Where no gradient is asked for (evaluation) it is the criterion itself.

    Args:
        criterion: of outputs and targets.
    Shape: ``(batch, n_outputs)``, ``(batch,)``.
    Source: Zeno et al. 2018, arXiv:1803.10123, section 5 ("labels trick").
    """

    def __init__(self, criterion: nn.Module) -> None:
        super().__init__()
        self.criterion = criterion

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if not outputs.requires_grad:
            return self.criterion(outputs, targets)
        classes, position = targets.unique(return_inverse=True)
        return self.criterion(outputs[:, classes], position)
