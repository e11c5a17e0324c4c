"""The labels trick: a loss over the classes that are in the batch."""

from __future__ import annotations

from torch import Tensor, nn

from kancl.plugins.plugin import Needs, Plugin, Stage
from kancl.plugins.setup import TrainingSetup


class LabelsTrickPlugin(Plugin):
    """Take the loss over the classes in the batch alone: old outputs aren't pushed down.

    Where every batch has all classes (domain- and task-incremental) it is naive.

    Source: Zeno et al. 2018, arXiv:1803.10123, section 5.
    """

    stage = Stage.OUTPUTS
    needs = Needs(
        class_labels="it chooses outputs by class; use strategy=naive instead"
    )

    def prepare(self, setup: TrainingSetup) -> None:
        setup.criterion = PresentClassesLoss(setup.criterion)


class PresentClassesLoss(nn.Module):
    """In training, a criterion over the outputs of the classes in the batch alone.

    Outputs of absent classes get no gradient. Where no gradient is asked for
    (evaluation) it is the criterion itself.

    Args:
        criterion: takes outputs and targets.
    Shape: ``(batch, n_outputs)``, ``(batch,)``.
    """

    def __init__(self, criterion: nn.Module) -> None:
        super().__init__()
        self.criterion = criterion

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if not outputs.requires_grad:
            return self.criterion(outputs, targets)
        classes, position = targets.unique(return_inverse=True)
        return self.criterion(outputs[:, classes], position)
