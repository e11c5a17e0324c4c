"""Optimizers take the steps of torch's plain ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kancl.runner.registry import OPTIMIZERS

PLAIN: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("adam", {"lr": 0.1, "weight_decay": 0.1}),
        ("adamw", {"lr": 0.1, "weight_decay": 0.1}),
        ("sgd", {"lr": 0.1, "weight_decay": 0.1, "momentum": 0.9}),
    ],
)
def test_steps(name: str, options: dict[str, Any]) -> None:
    start = torch.randn(5, 7, dtype=torch.float64)
    ours, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
    optimizers = [OPTIMIZERS[name]([ours], **options)]
    optimizers.append(PLAIN[name]([theirs], **options, foreach=False))  # type: ignore
    for _ in range(5):
        for parameter, optimizer in zip((ours, theirs), optimizers):
            optimizer.zero_grad()
            parameter.pow(4).sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)


def test_options_reach_torch() -> None:
    sgd = OPTIMIZERS["sgd"]([torch.zeros(1, requires_grad=True)], lr=3.0, momentum=0.5)
    assert sgd.defaults["lr"] == 3.0 and sgd.defaults["momentum"] == 0.5
    adamw = OPTIMIZERS["adamw"]([torch.zeros(1, requires_grad=True)], weight_decay=0.2)
    assert adamw.defaults["weight_decay"] == 0.2 and adamw.defaults["lr"] == 1e-3
