"""The labels trick and ER-ACE's loss: absent classes feel nothing."""

import torch
from avalanche.training.regularization import ACECriterion
from torch import nn, tensor

from kancl.plugins.outputs.present_classes import (
    PresentClassesLoss,
    asymmetric_cross_entropy,
)


def test_absent_classes_get_no_gradient_and_no_share():
    outputs = torch.randn(6, 5, requires_grad=True)
    targets = tensor([1, 4, 4, 1, 1, 4])
    loss = PresentClassesLoss(nn.CrossEntropyLoss())(outputs, targets)
    loss.backward()
    assert outputs.grad[:, [0, 2, 3]].abs().max() == 0
    expected = nn.functional.cross_entropy(
        outputs.detach()[:, [1, 4]], tensor([0, 1, 1, 0, 0, 1])
    )
    torch.testing.assert_close(loss.detach(), expected)


def test_is_the_criterion_itself_where_all_are_present_or_nothing_is_trained():
    plain = nn.CrossEntropyLoss()
    outputs, targets = torch.randn(5, 5, requires_grad=True), torch.randperm(5)
    torch.testing.assert_close(
        PresentClassesLoss(plain)(outputs, targets), plain(outputs, targets)
    )
    few = tensor([1, 1, 1, 2, 2])
    with torch.no_grad():
        evaluated = PresentClassesLoss(plain)(outputs.detach(), few)
    torch.testing.assert_close(evaluated, plain(outputs, few).detach())


def test_equals_stock_where_that_is_finite():
    current, replayed = torch.randn(7, 6), torch.randn(5, 6)
    y, y_replayed = tensor([2, 5, 2, 2, 5, 5, 2]), tensor([0, 1, 2, 3, 5])
    torch.testing.assert_close(
        asymmetric_cross_entropy(current, y, replayed, y_replayed),
        ACECriterion()(current, y, replayed, y_replayed),
    )


def test_certain_outputs_give_a_loss_where_stock_gives_none():
    """The stock half fails once Avalanche takes log_softmax."""
    current = tensor([[0.0, 200.0, 0.0], [0.0, 0.0, 200.0]])
    y, replayed, y_replayed = tensor([1, 2]), torch.zeros(1, 3), tensor([0])
    ours = asymmetric_cross_entropy(current, y, replayed, y_replayed)
    assert ours.item() == tensor(3.0).log().item() / 2
    assert not ACECriterion()(current, y, replayed, y_replayed).isfinite()
