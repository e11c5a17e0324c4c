import numpy as np
import pytest
import torch

from kancl.runner.machine import flushed_denormals

pytestmark = pytest.mark.skipif(
    not torch.set_flush_denormal(False), reason="this processor can't flush them"
)


def half_of_the_smallest() -> float:
    return float(torch.full((8,), torch.finfo(torch.float32).tiny).mul(0.5).sum())


def test_denormals_are_0_inside_and_come_back() -> None:
    with pytest.raises(RuntimeError, match="inside"):
        with flushed_denormals():
            assert half_of_the_smallest() == 0
            assert np.finfo(np.float32).eps > 0  # without a warning
            raise RuntimeError("inside")
    assert half_of_the_smallest() > 0


def test_who_flushed_them_before_goes_on_doing_so() -> None:
    torch.set_flush_denormal(True)
    try:
        with flushed_denormals():
            pass
        assert half_of_the_smallest() == 0
    finally:
        torch.set_flush_denormal(False)


def test_adam_ends_at_the_same_parameters() -> None:
    """Of weights whose gradients vanish, and of those whose gradients are denormal."""
    ends = []
    for flush in (False, True):
        torch.manual_seed(0)
        weights = torch.randn(64).requires_grad_()
        optimizer = torch.optim.Adam([weights], lr=1e-3, fused=True)
        torch.set_flush_denormal(flush)
        try:
            for k in range(1500):
                weights.grad = torch.randn(64) * 10.0 ** -(k / 25)
                optimizer.step()
        finally:
            torch.set_flush_denormal(False)
        ends.append(weights.detach().clone())
        moments = optimizer.state[weights]["exp_avg"].abs()
        denormal = (moments > 0) & (moments < torch.finfo(torch.float32).tiny)
        assert denormal.any() != flush
    assert torch.equal(*ends)
