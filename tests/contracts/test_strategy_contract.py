"""What every strategy keeps, with every network, head and kind of incremental learning.

A new strategy gets all of this by its line in ``STRATEGIES``.
"""

import pytest
import torch
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.core import SupervisedPlugin
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.logging import BaseLogger
from avalanche.training.plugins import EvaluationPlugin

from kancl.benchmarks import split_mnist
from kancl.models.heads import with_head
from kancl.runner.registry import GROUPS
from kancl.strategies import (
    GROUP,
    TrainingSetup,
    build,
    trains_jointly,
    trains_last_layer_only,
)

KINDS = {  # name: (incremental, head)
    "class-single": ("class", "single"),
    "class-growing": ("class", "growing"),
    "domain": ("domain", "single"),
    "task": ("task", "multi"),
}
TINY = {
    "kan": {"hidden": (4,), "grid_size": 2, "degree": 2},
    "kan_local": {"hidden": (4,), "grid_size": 2, "degree": 2},
    "mlp": {"hidden": (5,)},
}
SUMS = (
    "ewc+replay",
    "lwf+replay",
    "ewc+lwf",
    "gram+labels_trick",
    "drift_penalty+ewc",
    "freeze_base+hard_mask+si",
    "grow_grids+replay",
    "agem+mas",
    "er_ace+l2_anchor",
)
N_EXPERIENCES, N_ITERATIONS, MEMORY = 3, 2, 12
SMALL = {
    "mem_size": MEMORY,
    "patterns_per_experience": 6,
    "candidates": 10,
    "n_features": 20,
    "structure": "blocks",
}

TRAINING_STEP = [
    "before_training_iteration",
    "before_forward",
    "after_forward",
    "before_backward",
    "after_backward",
    "before_update",
    "after_update",
    "after_training_iteration",
]
EXPERIENCE = [
    "before_train_dataset_adaptation",
    "after_train_dataset_adaptation",
    "before_training_exp",
    "before_training_epoch",
    *N_ITERATIONS * TRAINING_STEP,
    "after_training_epoch",
    "after_training_exp",
]
EVALUATION_STEP = [
    "before_eval_iteration",
    "before_eval_forward",
    "after_eval_forward",
    "after_eval_iteration",
]
EVALUATION = [
    "before_eval_dataset_adaptation",
    "after_eval_dataset_adaptation",
    "before_eval_exp",
    *EVALUATION_STEP,
    "after_eval_exp",
]


def spy():
    """A plugin that keeps the names of the hooks that are called."""

    def recorder(name):
        return lambda self, strategy, **kwargs: self.called.append(name)

    hooks = [h for h in dir(SupervisedPlugin) if h.startswith(("before_", "after_"))]
    cls = type("Spy", (SupervisedPlugin,), {hook: recorder(hook) for hook in hooks})
    plugin = cls()
    plugin.called = []
    return plugin


@pytest.fixture(scope="module")
def benchmarks():
    return {
        incremental: split_mnist(
            incremental=incremental, train_samples=16, test_samples=6
        )
        for incremental in ("class", "domain", "task")
    }


def make(name, model, kind, info, plugins=()):
    _, head = KINDS[kind]
    torch.manual_seed(3)
    network = GROUPS["model"].build(
        model, info.in_features, info.n_outputs, **TINY[model]
    )
    network = with_head(network, head, info.n_outputs)
    options = GROUP.options(name).keys() & SMALL.keys()
    setup = TrainingSetup(
        network,
        torch.optim.Adam(network.parameters(), lr=0.01),
        batch_size=8,
        iterations=N_ITERATIONS,
        plugins=plugins,
        evaluator=EvaluationPlugin(
            accuracy_metrics(experience=True), loggers=[BaseLogger()]
        ),
    )
    return build(name, setup, **{option: SMALL[option] for option in options})


def rounds(name, stream):
    """What ``train`` is called with: each experience, or all of them at once."""
    return [stream] if trains_jointly(name) else stream


def parameters(strategy):
    return {n: p.detach().clone() for n, p in strategy.model.named_parameters()}


NAMES, MODELS = (*GROUP.names, *SUMS), tuple(GROUPS["model"].names)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_strategy_contract(name, kind, benchmarks):
    """With one network that is not refused: they take turns, so that each meets each name
    and each kind.
    """
    turn = (NAMES.index(name) + list(KINDS).index(kind)) % len(MODELS)
    for model in MODELS[turn:] + MODELS[:turn]:
        if keeps_contract(name, model, kind, benchmarks):
            break


@pytest.mark.proof
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", NAMES)
def test_strategy_contract_of_every_network(name, model, kind, benchmarks):
    keeps_contract(name, model, kind, benchmarks)


def keeps_contract(name, model, kind, benchmarks):
    """Whether the strategy takes such a network and head; if so, it keeps the contract."""
    benchmark = benchmarks[KINDS[kind][0]]
    train = list(benchmark.train_stream)[:N_EXPERIENCES]
    test = list(benchmark.test_stream)[:N_EXPERIENCES]
    try:
        plugin = spy()
        strategy = make(name, model, kind, benchmark.info, [plugin])
    except ValueError as refusal:
        assert f"strategy={name}" in str(refusal)
        assert "instead" in str(refusal)
        return False

    strategy.eval(test)
    start = parameters(strategy)
    for experiences in rounds(name, train):
        plugin.called.clear()
        strategy.train(experiences)
        assert plugin.called == ["before_training", *EXPERIENCE, "after_training"]
        plugin.called.clear()
        metrics = strategy.eval(test)
        n = N_EXPERIENCES
        assert plugin.called == ["before_eval", *n * EVALUATION, "after_eval"]
        accuracies = [v for k, v in metrics.items() if "Top1_Acc_Exp" in k]
        assert len(accuracies) == n and all(0 <= a <= 1 for a in accuracies)

    end = parameters(strategy)
    assert all(torch.isfinite(p).all() for p in end.values())
    moved = {n.rpartition(".")[0] for n in start if not torch.equal(end[n], start[n])}
    layers = {n.rpartition(".")[0] for n in start}
    if trains_last_layer_only(name):
        layers = {layer for layer in layers if "head" in layer}
    assert moved == layers  # every layer, every head
    optimized = {id(p) for g in strategy.optimizer.param_groups for p in g["params"]}
    assert optimized == {id(p) for p in strategy.model.parameters()}
    check_head(strategy, kind)

    torch.manual_seed(0)
    again = make(name, model, kind, benchmark.info)  # and never evaluated
    for experiences in rounds(name, train):
        again.train(experiences)
    check_same(end, parameters(again))
    return True


def check_same(ours, theirs):
    """Same seed, same bytes; evaluation in between must not matter."""
    common = ours.keys() & theirs.keys()
    assert common == theirs.keys()
    for name in common:
        assert torch.equal(ours[name], theirs[name]), name


def check_head(strategy, kind):
    model = strategy.model.eval()
    x = torch.rand(4, 784)
    if kind == "class-growing":
        output = model(x)
        assert output.shape == (4, 10)
        assert (output[:, : 2 * N_EXPERIENCES] > -500).all()
        assert (output[:, 2 * N_EXPERIENCES :] == -1000).all()
    elif kind == "task":
        tasks = torch.tensor([0, 1, 2, 0])
        output = model(x, tasks)
        assert output.shape == (4, 2)
        for row, task in enumerate(tasks):
            alone = model(x[row : row + 1], tasks[row : row + 1])
            torch.testing.assert_close(output[row : row + 1], alone)
        heads = [model(x, torch.full((4,), task)) for task in range(3)]
        assert not torch.allclose(heads[0], heads[1])


@pytest.mark.parametrize(
    "name",
    [name for name in GROUP.names if "mem_size" in GROUP.options(name)],
)
def test_memory_is_small_and_has_no_gradient(name, benchmarks):
    """No tensor that a strategy holds on to has a graph, none holds the whole data."""
    benchmark = benchmarks["class"]
    strategy = make(name, "mlp", "class-single", benchmark.info)
    train = list(benchmark.train_stream)[:N_EXPERIENCES]
    for experience in train:
        strategy.train(experience)
    held, datasets = reachable([strategy.plugins[:-3], storage(strategy)])
    assert held or datasets
    own = {id(p) for p in strategy.model.parameters()}
    for tensor in held:
        assert tensor.grad_fn is None or id(tensor) in own
    rows = [t for t in held if t.ndim >= 2 and t[0].numel() == 784 and len(t) > 5]
    assert all(len(t) <= MEMORY for t in rows if t.is_floating_point())
    assert all(len(dataset) <= MEMORY for dataset in datasets)


OURS = ("kancl.plugins", "kancl.strategies", "avalanche.training")


def storage(strategy):
    return getattr(strategy, "storage_policy", None)


def reachable(roots):
    """Tensors and data sets among the attributes of ``roots``, at any depth."""
    tensors, datasets, seen, stack = [], [], set(), list(roots)
    while stack:
        item = stack.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, torch.Tensor):
            tensors.append(item)
        elif isinstance(item, AvalancheDataset):
            datasets.append(item)  # a view by row numbers; its leaf is the benchmark's
        elif isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, (list, tuple, set)):
            stack.extend(item)
        elif type(item).__module__.startswith(OURS):
            stack.extend(vars(item).values())
    return tensors, datasets
