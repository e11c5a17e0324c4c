"""The kernel's forecast against gradient descent itself."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from kancl.metrics import kernel_forecast
from kancl.metrics.kernel_forecast import (
    N_STEPS,
    flow,
    foretold_outputs,
    kernel,
    linearised,
    weight_changes,
)
from kancl.models import KAN, MLP
from kancl.models.heads import with_head
from kancl.models.layer_features import get_weights, has_features, set_weights


def samples(n: int, n_classes: int = 3, task: int = 0):
    x, y = torch.rand(n, 6, dtype=torch.float64), torch.arange(n) % n_classes
    return x, y, torch.full((n,), task)


def descend(model, new, lr, n_steps, shrink=lambda name, step: step):
    """Full-batch gradient descent on the weights of layers with features."""
    layers = {n: m for n, m in model.named_modules() if has_features(m)}
    x, y, _ = new
    for _ in range(n_steps):
        model.zero_grad()
        cross_entropy(model(x), y).backward()
        before = {name: get_weights(layer) for name, layer in layers.items()}
        with torch.no_grad():
            for p in model.parameters():
                if p.grad is not None:
                    p -= lr * p.grad
        for name, layer in layers.items():
            step = get_weights(layer) - before[name]
            set_weights(layer, before[name] + shrink(name, step))


@pytest.mark.parametrize("shrinks", [False, True])
@pytest.mark.parametrize("kind", ["linear", "kan"])
def test_of_one_layer_the_flow_is_gradient_descent(kind, shrinks):
    layer = (
        nn.Linear(6, 3)
        if kind == "linear"
        else KAN([6, 3], enable_standalone_scale_spline=False)
    )
    model, new, old = layer.double(), samples(30), samples(20)
    at = linearised(model, new[0], new[2])
    n_features = next(iter(at.features.values())).shape[1]
    root = torch.randn(n_features, n_features, dtype=torch.float64) / n_features
    p = root @ root.T if shrinks else torch.eye(n_features, dtype=torch.float64)

    def shrink(name, step):
        return p @ step

    k = kernel(at, shrink)
    torch.testing.assert_close(k, k.T)
    lr = 0.5 * len(new[0]) / float(torch.linalg.eigvalsh(k)[-1])
    _, n_steps = flow(at.outputs, new[1], k, lr)
    assert n_steps == N_STEPS
    changes = weight_changes(model, new, lr, shrink)
    before, foretold = foretold_outputs(model, old, changes, at_once=7)
    torch.testing.assert_close(before, model(old[0]).detach())
    descend(model, new, lr, n_steps, shrink)
    after = model(old[0]).detach()
    assert (after - before).abs().max() > 1e-2
    torch.testing.assert_close(foretold, after, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("head", ["single", "growing", "multi"])
@pytest.mark.parametrize(
    "make",
    [
        partial(KAN, [6, 5, 3], enable_standalone_scale_spline=False),
        partial(MLP, [6, 5, 3]),
    ],
)
def test_of_several_layers_it_is_that_to_first_order(make, head, monkeypatch):
    network = with_head(make(), head, 3)
    if head == "growing":
        network._add_head([0, 2])
        network._add_head([1])
    elif head == "multi":
        network._add_heads(["0"])
    network.double()
    new, old = samples(30), samples(20)
    monkeypatch.setattr(kernel_forecast, "N_STEPS", 1)
    lr = 1e-5
    changes = weight_changes(network, new, lr, lambda name, step: step)
    before, foretold = foretold_outputs(network, old, changes)
    forward = network.forward
    if head == "multi":
        network.forward = lambda x: forward(x, 0)
    descend(network, new, lr, 1)
    after = network(old[0]).detach()
    moved = (after - before).abs().max()
    assert moved > 1e-8
    assert (foretold - after).abs().max() < 1e-3 * moved


def test_the_head_of_another_task_stays():
    network = with_head(MLP([6, 5, 2]), "multi", 2)
    network._add_heads(["0", "1"])
    network.double()
    changes = weight_changes(network, samples(30, 2, 1), 0.1, lambda name, step: step)
    assert [n for n in changes if "heads" in n] == ["heads.1"]
    before, after = foretold_outputs(network, samples(20, 2), changes)
    assert (before - after).abs().max() > 1e-4  # by the layers that both share


def test_it_ends_when_the_new_samples_are_learned():
    model, new = nn.Linear(6, 3).double(), samples(3)
    at = linearised(model, new[0], new[2])
    k = kernel(at, lambda name, step: step)
    alpha, n_steps = flow(at.outputs, new[1], 1e3 * k, 1e9)
    assert n_steps == N_STEPS  # h is limited: it does not blow up
    assert (
        cross_entropy(at.outputs + (1e3 * k @ alpha.flatten()).view(3, 3), new[1]) < 1
    )
    certain = 50 * torch.eye(3, dtype=torch.float64)[new[1]]
    assert flow(certain, new[1], k, 0.1)[1] == 0
