"""QuadraticAnchor against the sum written out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kancl.models.inspect import trainable
from kancl.plugins.penalties.anchor import QuadraticAnchor, values


def written_out(model, terms):
    parameters = dict(model.named_parameters())
    return sum(
        (importance[name] * (parameters[name] - at[name]) ** 2).sum()
        for importance, at in terms
        for name in importance
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), n_terms=st.integers(1, 6))
def test_merged_terms_equal_their_sum_in_value_and_gradient(seed, n_terms):
    torch.manual_seed(seed)
    model = nn.Linear(3, 2).double()
    anchor, terms = QuadraticAnchor(), []
    for _ in range(n_terms):
        at = {n: torch.randn_like(p) for n, p in model.named_parameters()}
        importance = {
            n: torch.rand_like(p) * (torch.rand_like(p) > 0.3) for n, p in at.items()
        }
        anchor.add(importance, at)
        terms.append((importance, at))
    ours, theirs = anchor.penalty(trainable(model)), written_out(model, terms)
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-10, atol=1e-12)
    ours.backward()
    # A parameter of no importance at all stays out of the graph: no gradient is 0.
    found = [
        torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()
    ]
    expected = torch.autograd.grad(theirs, list(model.parameters()))
    torch.testing.assert_close(found, list(expected), rtol=1e-10, atol=1e-12)


def test_merging_does_not_cancel_at_the_strengths_of_the_protocol():
    model = nn.Linear(4, 4)
    anchor, terms = QuadraticAnchor(), []
    for k in range(5):
        at = {n: p.detach() + 1e-4 * k for n, p in model.named_parameters()}
        importance = {n: torch.full_like(p, 1e9) for n, p in at.items()}
        anchor.add(importance, at)
        terms.append((importance, at))
    exact = nn.Linear(4, 4).double()
    exact.load_state_dict(model.state_dict())
    torch.testing.assert_close(
        anchor.penalty(trainable(model)).double(),
        written_out(exact, terms),
        rtol=2e-3,
        atol=0,
    )


def test_parameters_that_appear_or_grow_later():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.heads = nn.ModuleDict({"0": nn.Linear(3, 2)})

    model, anchor, terms = Heads(), QuadraticAnchor(), []
    for step in range(3):
        at = values(model)
        importance = {n: torch.rand_like(p) for n, p in at.items()}
        anchor.add(importance, at)
        terms.append((importance, at))
        model.heads[str(step + 1)] = nn.Linear(3, 2)
    torch.testing.assert_close(
        anchor.penalty(trainable(model)),
        written_out(model, terms),
        rtol=1e-5,
        atol=1e-6,
    )

    grown = nn.Linear(3, 5)  # as Avalanche's IncrementalClassifier grows: leading rows
    small = nn.Linear(3, 2)
    anchor = QuadraticAnchor()
    ones = {n: torch.ones_like(p) for n, p in small.named_parameters()}
    anchor.add(ones, values(small))
    expected = ((grown.weight[:2] - small.weight) ** 2).sum() + (
        (grown.bias[:2] - small.bias) ** 2
    ).sum()
    torch.testing.assert_close(anchor.penalty(trainable(grown)), expected)
    ones = {n: torch.ones_like(p) for n, p in grown.named_parameters()}
    anchor.add(ones, values(grown))
    torch.testing.assert_close(anchor.penalty(trainable(grown)), expected)


def test_move_decays_what_was_and_takes_the_new_centre():
    model = nn.Linear(2, 1)
    anchor = QuadraticAnchor()
    first, second = values(model), {n: p + 1 for n, p in values(model).items()}
    ones = {n: torch.ones_like(p) for n, p in first.items()}
    anchor.move(ones, to=first)
    anchor.move({n: 3 * o for n, o in ones.items()}, to=second, decay=0.5)
    # 3 parameters, each at distance 1 of the new centre, weighted by 0.5 * 1 + 3
    assert anchor.penalty(trainable(model)).item() == pytest.approx(3 * 3.5)


def test_buffers_and_frozen_parameters_have_no_anchor():
    model = nn.BatchNorm1d(3)
    model.bias.requires_grad_(False)
    assert set(trainable(model)) == {"weight"}


def test_pull_is_the_implicit_step_and_never_overshoots():
    model, anchor = nn.Linear(3, 2).double(), QuadraticAnchor()
    for _ in range(2):
        at = {n: torch.randn_like(p) for n, p in model.named_parameters()}
        anchor.add({n: torch.rand_like(p) for n, p in at.items()}, at)
    before = values(model)
    anchor.pull(trainable(model), 0.7)
    # theta = before - 0.7/2 * gradient of the sum, taken at theta
    gradient = torch.autograd.grad(
        anchor.penalty(trainable(model)), list(model.parameters())
    )
    for (name, p), g in zip(model.named_parameters(), gradient):
        torch.testing.assert_close(p.detach(), before[name] - 0.35 * g)
    anchor.pull(trainable(model), 1e12)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), anchor.centre[name])
