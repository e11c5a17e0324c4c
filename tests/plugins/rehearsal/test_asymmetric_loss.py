"""ER-ACE's loss against Avalanche's, and where that one is infinite."""

import torch
from avalanche.training.regularization import ACECriterion
from torch import tensor

from kancl.plugins.rehearsal.asymmetric_loss import asymmetric_cross_entropy


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
    assert ours.item() == torch.tensor(3.0).log().item() / 2
    assert not ACECriterion()(current, y, replayed, y_replayed).isfinite()
