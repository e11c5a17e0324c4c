"""The labels trick: absent classes feel nothing."""

import torch
from torch import nn

from kancl.plugins.outputs.labels_trick import PresentClassesLoss


def test_absent_classes_get_no_gradient_and_no_share():
    outputs = torch.randn(6, 5, requires_grad=True)
    targets = torch.tensor([1, 4, 4, 1, 1, 4])
    loss = PresentClassesLoss(nn.CrossEntropyLoss())(outputs, targets)
    loss.backward()
    assert outputs.grad[:, [0, 2, 3]].abs().max() == 0
    expected = nn.functional.cross_entropy(
        outputs.detach()[:, [1, 4]], torch.tensor([0, 1, 1, 0, 0, 1])
    )
    torch.testing.assert_close(loss.detach(), expected)


def test_is_the_criterion_itself_where_all_are_present_or_nothing_is_trained():
    plain = nn.CrossEntropyLoss()
    outputs, targets = torch.randn(5, 5, requires_grad=True), torch.randperm(5)
    torch.testing.assert_close(
        PresentClassesLoss(plain)(outputs, targets), plain(outputs, targets)
    )
    few = torch.tensor([1, 1, 1, 2, 2])
    with torch.no_grad():
        evaluated = PresentClassesLoss(plain)(outputs.detach(), few)
    torch.testing.assert_close(evaluated, plain(outputs, few).detach())
