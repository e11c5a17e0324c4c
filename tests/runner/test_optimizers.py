"""Optimizers take the steps of torch's plain ones."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from kancl.runner.registry import OPTIMIZERS
from tests.runner.conftest import MakeRun

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


def test_a_head_that_comes_later_begins_with_no_momentum() -> None:
    """Steps agree with torch's own loop over parameters; the fused step did not."""
    ends = []
    makers: list[Any] = [
        partial(OPTIMIZERS["sgd"], lr=0.1),
        partial(torch.optim.SGD, lr=0.1, foreach=False),
    ]
    for make in makers:
        torch.manual_seed(0)
        body, head = (nn.Parameter(torch.randn(3)) for _ in range(2))
        optimizer = make([body], momentum=0.9)
        for step in range(6):
            if step == 3:
                optimizer.add_param_group({"params": [head]})
            optimizer.zero_grad()
            (body.square().sum() + (body * head).sum() * (step >= 3)).backward()
            optimizer.step()
        ends.append(torch.stack([body, head]).detach())
    torch.testing.assert_close(*ends)


@pytest.mark.parametrize("head", ["growing", "multi"])
def test_momentum_goes_through_all_experiences(head: str, make_run: MakeRun) -> None:
    kind = "task" if head == "multi" else "class"
    summary, _ = make_run(
        "optimizer=sgd",
        "optimizer.momentum=0.9",
        "model=mlp",
        f"scenario.head={head}",
        f"scenario.incremental={kind}",
        "scenario.n_experiences=2",
        "evaluation.samples=0",
    )
    assert summary["status"] == "completed", summary
