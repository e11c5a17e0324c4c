"""EWC's and online EWC's terms, written out, in a real training."""

import pytest
import torch
from torch import nn

from kancl.data.rows import as_tensors
from kancl.plugins.penalties.anchor import values
from kancl.plugins.penalties.ewc import EWCPlugin, diagonal_fisher
from kancl.plugins.plugin import TrainingSetup


@pytest.fixture
def train(naive):
    """Train on n experiences; return the model, each one's Fisher and parameters."""

    def run(benchmark, plugin, n=2, lr=0.1):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 6))
        strategy = naive(model, plugin, lr=lr)
        terms = []
        for experience in list(benchmark.train_stream)[:n]:
            strategy.train(experience)
            fisher = diagonal_fisher(model, *as_tensors(experience.dataset))
            terms.append((fisher, values(model)))
        return model, terms

    return run


def weighted(model, fisher, at):
    parameters = dict(model.named_parameters())
    return sum((fisher[n] * (parameters[n] - at[n]) ** 2).sum() for n in fisher)


def penalty(plugin, model):
    class Strategy:  # what before_backward looks at
        loss = torch.zeros(1)

    Strategy.model = model
    plugin.before_backward(Strategy)
    return Strategy.loss


def test_every_experience_adds_its_own_term_with_the_half(points_benchmark, train):
    plugin = EWCPlugin(ewc_lambda=7.0)
    model, terms = train(points_benchmark(), plugin)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.05 * torch.randn_like(p)
    expected = 7.0 / 2 * sum(weighted(model, *term) for term in terms)
    torch.testing.assert_close(penalty(plugin, model), expected[None])


def test_online_keeps_one_term_and_decays_the_past(points_benchmark, train):
    plugin = EWCPlugin(ewc_lambda=7.0, gamma=0.5)
    model, [(first, _), (second, at)] = train(points_benchmark(), plugin)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.05 * torch.randn_like(p)
    running = {n: 0.5 * first[n] + second[n] for n in first}
    expected = 7.0 / 2 * 0.5 * weighted(model, running, at)
    torch.testing.assert_close(penalty(plugin, model), expected[None])


def test_sampling_images_is_random_and_apart_from_the_training_stream(
    points_benchmark, train
):
    def importance(seed):
        plugin = EWCPlugin(ewc_lambda=1.0, fisher_samples=4)
        plugin.prepare(TrainingSetup(None, None, seed=seed))
        model, [(everything, _)] = train(points_benchmark(), plugin, n=1)
        return plugin.anchor.importance["0.weight"], everything["0.weight"], model

    few, everything, model = importance(0)
    again, _, _ = importance(0)
    other, _, same = importance(1)
    assert torch.equal(few, again)
    assert not torch.equal(few, other) and not torch.equal(few, everything)
    for a, b in zip(model.parameters(), same.parameters()):
        assert torch.equal(a, b)  # the draw touched no training


def test_holds_back_from_what_naive_forgets(points_benchmark, train):
    benchmark = points_benchmark("domain", 2, n=160)

    def forgotten(ewc_lambda):
        model, [(fisher, at), _] = train(
            benchmark, EWCPlugin(ewc_lambda=ewc_lambda), lr=0.1
        )
        return weighted(model, fisher, at).item()

    assert forgotten(100.0) < forgotten(0.0) / 2


@pytest.mark.parametrize(
    "options, message",
    [
        ({"ewc_lambda": -1.0}, "ewc_lambda must be at least 0, not -1"),
        ({"ewc_lambda": float("nan")}, "takes float, not nan"),
        ({"ewc_lambda": 1.0, "gamma": 1.5}, "gamma must be at most 1, not 1.5"),
        ({"ewc_lambda": 1.0, "fisher_samples": 0}, "fisher_samples must be at least 1"),
    ],
)
def test_refuses_what_is_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        EWCPlugin(**options)


def test_implicit_is_the_explicit_step_where_that_is_small_and_stable_where_not(
    points_benchmark, train
):
    benchmark = points_benchmark("domain", 2, n=160)

    def ends(ewc_lambda):
        return [
            torch.cat(
                [p.flatten() for p in train(benchmark, plugin, lr=0.1)[0].parameters()]
            )
            for plugin in (
                EWCPlugin(ewc_lambda=ewc_lambda),
                EWCPlugin(ewc_lambda=ewc_lambda, implicit=True),
            )
        ]

    explicit, implicit = (end.detach() for end in ends(0.1))
    torch.testing.assert_close(implicit, explicit, rtol=0.02, atol=0.005)
    explicit, implicit = (end.detach() for end in ends(3e4))
    assert not torch.isfinite(explicit).all() or explicit.abs().max() > 1e3
    assert implicit.abs().max() < 10
