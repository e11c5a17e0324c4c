"""Losses over the classes that are in the batch: old outputs aren't pushed down."""

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kancl.plugins.plugin import Needs, Plugin, Stage, TrainingSetup


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

    Where no gradient is asked for (evaluation) it is the criterion itself.

    Shape: ``(batch, n_outputs)``, ``(batch,)``.
    """

    def __init__(self, criterion: nn.Module) -> None:
        super().__init__()
        self.criterion = criterion

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if outputs.requires_grad:
            outputs, targets = _of_present_classes(outputs, targets)
        return self.criterion(outputs, targets)


def asymmetric_cross_entropy(
    current: Tensor, target: Tensor, replayed: Tensor, replayed_target: Tensor
) -> Tensor:
    """Average the current loss over the classes in its batch and the replayed over all.

    Shape: current and replayed ``(batch, n_outputs)``, targets ``(batch,)``.
    Source: ER-ACE, Caccia et al. 2022, arXiv:2104.05025. differs from Avalanche's
        ACECriterion, which takes the logarithm of a softmax that can be 0; equal to it
        where that is finite.
    """
    loss = cross_entropy(*_of_present_classes(current, target))
    return (loss + cross_entropy(replayed, replayed_target)) / 2


def _of_present_classes(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs of the classes among the targets, and the targets' places among them."""
    classes, position = targets.unique(return_inverse=True)
    return outputs[:, classes], position
