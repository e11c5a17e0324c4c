"""ER-ACE's loss: new classes don't push the old ones down."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy


def asymmetric_cross_entropy(
    current: Tensor, target: Tensor, replayed: Tensor, replayed_target: Tensor
) -> Tensor:
    """Average the current loss over the classes in its batch and the replayed over all.

    Shape: current and replayed ``(batch, n_outputs)``, targets ``(batch,)``.
    Source: Caccia et al. 2022, arXiv:2104.05025. differs from Avalanche's
        ACECriterion, which takes the logarithm of a softmax that can be 0; equal to it
        where that is finite.
    """
    classes, position = target.unique(return_inverse=True)
    loss = cross_entropy(current[:, classes], position)
    return (loss + cross_entropy(replayed, replayed_target)) / 2
