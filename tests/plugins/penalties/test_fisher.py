"""The Fisher information against a loop over samples, and Avalanche's against ours."""

import copy
import time

import pytest
import torch
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.benchmarks.utils.data_attribute import DataAttribute
from avalanche.models import avalanche_forward
from avalanche.training.plugins import EWCPlugin as StockEWCPlugin
from torch import nn
from torch.utils.data import TensorDataset

from kancl.models import KAN, MLP, KANLinear
from kancl.models.heads import with_head
from kancl.plugins.penalties.ewc import diagonal_fisher


def loop(model, x, y, task_labels, labels="expected"):
    """One sample, one label, one backward pass at a time."""
    model = copy.deepcopy(model).eval()
    parameters = dict(model.named_parameters())
    fisher = {n: torch.zeros_like(p) for n, p in parameters.items()}
    for row in range(len(x)):
        task = int(task_labels[row])
        log_p = avalanche_forward(model, x[row : row + 1], task).log_softmax(1)[0]
        weights = log_p.detach().exp()
        if labels == "true":
            weights = nn.functional.one_hot(y[row], len(log_p))
        elif labels == "predicted":
            weights = nn.functional.one_hot(log_p.argmax(), len(log_p))
        for k, weight in enumerate(weights):
            gradients = torch.autograd.grad(
                log_p[k],
                list(parameters.values()),
                retain_graph=True,
                allow_unused=True,
            )
            for name, g in zip(fisher, gradients):
                if g is not None:
                    fisher[name] += weight * g**2
    return {n: f / len(x) for n, f in fisher.items()}


def samples(n=13, width=6, classes=4):
    x = torch.rand(n, width) * 2.6 - 1.3  # some of it off a grid on [-1, 1]
    return x, torch.randint(classes, (n,)), torch.zeros(n, dtype=torch.long)


class Tied(nn.Module):
    """A layer used twice: no closed form."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 6)
        self.outer = nn.Linear(6, 4)

    def forward(self, x):
        return self.outer(torch.tanh(self.inner(torch.tanh(self.inner(x)))))


NETWORKS = {
    "mlp": lambda: MLP([6, 5, 4]),
    "mlp with dropout": lambda: MLP([6, 5, 4], dropout=0.5),
    "kan": lambda: KAN([6, 5, 4]),
    "kan without scaler": lambda: nn.Sequential(
        KANLinear(6, 5, enable_standalone_scale_spline=False),
        KANLinear(5, 4, enable_standalone_scale_spline=False),
    ),
    "kan without base": lambda: nn.Sequential(
        KANLinear(6, 5, base=False), KANLinear(5, 4, base=False)
    ),
    "kan with neither": lambda: nn.Sequential(
        KANLinear(6, 5, base=False, enable_standalone_scale_spline=False),
        KANLinear(5, 4, base=False, enable_standalone_scale_spline=False),
    ),
    "quadratic kan, clamped": lambda: nn.Sequential(
        KANLinear(6, 5, spline_order=2, outside="clamp"),
        KANLinear(5, 4, grid_size=9, outside="linear"),
    ),
    "kan with layer norm": lambda: nn.Sequential(
        KANLinear(6, 5), nn.LayerNorm(5), KANLinear(5, 4)
    ),
    "kan with batch norm": lambda: nn.Sequential(
        nn.BatchNorm1d(6), KANLinear(6, 5), KANLinear(5, 4)
    ),
    "layer used twice": Tied,
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(8, 4)
    ),
}


@pytest.mark.parametrize("labels", ["expected", "true", "predicted"])
@pytest.mark.parametrize("network", NETWORKS)
def test_equals_the_loop_over_samples(network, labels):
    model = NETWORKS[network]()
    x, y, tasks = samples()
    ours = diagonal_fisher(model, x, y, tasks, labels=labels)
    torch.testing.assert_close(
        ours, loop(model, x, y, tasks, labels), rtol=2e-4, atol=1e-9
    )
    assert all(f.max() > 0 for f in ours.values())


@pytest.mark.parametrize("kind", ["single", "growing", "multi"])
@pytest.mark.parametrize("network", ["kan", "mlp"])
def test_heads_have_importances(network, kind, points_benchmark):
    benchmark = points_benchmark("task" if kind == "multi" else "class", 2)
    n_outputs = 2 if kind == "multi" else 4
    backbone = {"kan": KAN, "mlp": MLP}[network]([6, 5, n_outputs])
    model = with_head(backbone, kind, n_outputs)
    model.train()
    for experience in benchmark.train_stream:
        if hasattr(model, "adaptation"):
            model.pre_adapt(None, experience)
    x, y, _ = samples(classes=2)
    tasks = torch.full_like(y, 1 if kind == "multi" else 0)
    ours = diagonal_fisher(model, x, y, tasks)
    torch.testing.assert_close(ours, loop(model, x, y, tasks), rtol=2e-4, atol=1e-9)
    assert set(ours) == {n for n, _ in model.named_parameters()}
    assert not any("grid" in name for name in ours)
    head = {n: f for n, f in ours.items() if not n.startswith("network.layers.0")}
    assert any(f.max() > 0 for f in head.values())


def test_sampled_labels_approach_the_expectation_and_repeat():
    model = KAN([6, 3])
    x, y, tasks = samples(n=8, classes=3)
    many = [t.repeat(4000, *[1] * (t.ndim - 1)) for t in (x, y, tasks)]
    exact = diagonal_fisher(model, x, y, tasks)

    def sampled(seed):
        generator = torch.Generator().manual_seed(seed)
        return diagonal_fisher(model, *many, labels="sampled", generator=generator)

    before = torch.random.get_rng_state()
    first = sampled(3)
    assert torch.equal(before, torch.random.get_rng_state())
    for name in exact:
        torch.testing.assert_close(first[name], exact[name], rtol=0.15, atol=1e-3)
    assert all(torch.equal(a, b) for a, b in zip(first.values(), sampled(3).values()))
    assert any(
        not torch.equal(a, b) for a, b in zip(first.values(), sampled(4).values())
    )


def test_leaves_modes_gradients_and_buffers_alone():
    model = nn.Sequential(nn.BatchNorm1d(6), KANLinear(6, 4), nn.Dropout(0.5))
    model[2].eval()
    state = copy.deepcopy(model.state_dict())
    diagonal_fisher(model, *samples())
    assert [m.training for m in model] == [True, True, False]
    assert all(p.grad is None for p in model.parameters())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name])


def test_refuses_no_samples_and_unknown_labels():
    model = MLP([6, 5, 4])
    x, y, tasks = samples()
    with pytest.raises(ValueError, match="at least one sample"):
        diagonal_fisher(model, x[:0], y[:0], tasks[:0])
    with pytest.raises(ValueError, match="fisher_labels must be expected.*'exact'"):
        diagonal_fisher(model, x, y, tasks, labels="exact")


def test_stock_importances_depend_on_the_batch_size_ours_cannot():
    """Fails once Avalanche's EWC takes per-sample gradients: then drop ours."""
    torch.manual_seed(0)
    model = MLP([6, 5, 4])
    x, y, tasks = samples(n=12)
    dataset = AvalancheDataset(
        [TensorDataset(x, y)],
        data_attributes=[
            DataAttribute(y.tolist(), "targets"),
            DataAttribute([0] * 12, "targets_task_labels", use_in_getitem=True),
        ],
    )

    def stock(batch_size):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        found = StockEWCPlugin(1.0).compute_importances(
            model, nn.CrossEntropyLoss(), optimizer, dataset, "cpu", batch_size
        )
        return {name: data.data for name, data in found.items()}

    empirical = loop(model, x, y, tasks, "true")
    torch.testing.assert_close(stock(1), empirical)
    torch.testing.assert_close(
        diagonal_fisher(model, x, y, tasks, labels="true"), empirical
    )
    assert not torch.allclose(stock(12)["layers.0.weight"], stock(1)["layers.0.weight"])
    assert stock(12)["layers.0.weight"].sum() < empirical["layers.0.weight"].sum() / 2


def test_protocol_size_takes_seconds():
    """12,000 images through 784-400-400-10: what the paper's loop needs minutes for."""
    model = MLP([784, 400, 400, 10])
    x = torch.rand(3000, 784)
    y = torch.randint(10, (3000,))
    start = time.perf_counter()
    diagonal_fisher(model, x, y, torch.zeros_like(y))
    assert time.perf_counter() - start < 5
