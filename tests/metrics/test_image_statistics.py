"""Samples drawn from moments are like those that the moments are of."""

import pytest
import torch

from kancl.metrics.image_statistics import drawn, moments


def test_means_covariance_labels_and_range():
    torch.manual_seed(0)
    y = torch.arange(4000) % 2 * 3  # classes 0 and 3
    root = torch.tensor([[0.3, 0.0], [0.2, 0.1]])
    x = torch.randn(4000, 2) @ root.T + torch.where(y == 3, 2.0, -2.0)[:, None]
    state = moments(x.view(-1, 1, 2), y, torch.full_like(y, 5))
    fakes, labels, tasks = drawn(state, 4000, seed=1)
    assert fakes.shape == (4000, 1, 2) and set(tasks.tolist()) == {5}
    assert labels.unique(return_counts=True)[1].tolist() == [2000, 2000]
    assert fakes.min() >= x.min() and fakes.max() <= x.max()
    for label in (0, 3):
        real, fake = x[y == label], fakes[labels == label].flatten(1)
        torch.testing.assert_close(fake.mean(0), real.mean(0), atol=0.02, rtol=0)
        torch.testing.assert_close(fake.T.cov(), real.T.cov(), atol=0.01, rtol=0)
    again = drawn(state, 4000, seed=1)[0]
    assert torch.equal(fakes, again)
    assert not torch.equal(fakes, drawn(state, 4000, seed=2)[0])


def test_of_low_rank_the_largest_directions_are_kept():
    x = torch.randn(500, 6) * torch.tensor([3.0, 0.1, 0.1, 2.0, 0.1, 0.1])
    labels = torch.zeros(500, dtype=torch.long)
    state = moments(x, labels, labels, rank=2)
    assert state["factor"].shape == (6, 2)
    fakes = drawn(state, 2000)[0]
    spread = fakes.std(0)
    torch.testing.assert_close(spread[[0, 3]], x.std(0)[[0, 3]], atol=0.2, rtol=0)
    assert spread[[1, 2, 4, 5]].max() < 0.1


def test_samples_of_two_tasks_are_refused():
    labels = torch.tensor([0, 1])
    with pytest.raises(ValueError, match="one task"):
        moments(torch.rand(2, 3), labels, labels)
