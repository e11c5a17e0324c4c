"""What every continual-learning plugin keeps, whatever it does to the loss."""

import importlib
import inspect
import pkgutil
from typing import get_origin

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.logging import BaseLogger
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive

import kancl.observe
import kancl.plugins
from kancl.benchmarks import split_mnist
from kancl.models import KAN
from kancl.models.heads import with_head
from kancl.plugins import Plugin, Stage
from kancl.plugins.hooks import LazyEvaluationPlugin
from kancl.plugins.loop import (
    BestEpochPlugin,
    EpochDecayPlugin,
    ExperienceDecayPlugin,
    FromScratchPlugin,
    LinearDecayPlugin,
    OptimizerStatePlugin,
)
from kancl.plugins.outputs.lwf import LwFPlugin
from kancl.plugins.outputs.readout import RidgeReadoutPlugin
from kancl.plugins.penalties.ewc import BatchedEWCPlugin, EWCPlugin
from kancl.plugins.penalties.importances import (
    DriftPenaltyPlugin,
    L2AnchorPlugin,
    MASPlugin,
    SynapticIntelligencePlugin,
)
from kancl.plugins.penalties.sparsity import SparsityPlugin
from kancl.plugins.plugin import undeclared
from kancl.plugins.rehearsal.replay import (
    AGEMPlugin,
    GEMPlugin,
    MemoryOnlyPlugin,
    MIRPlugin,
    ReplayPlugin,
)
from kancl.plugins.steps.clipping import GradientClippingPlugin
from kancl.plugins.steps.frozen import FrozenBasePlugin, HardMaskPlugin, LazyStepsPlugin
from kancl.plugins.steps.grid_growth import GridGrowthPlugin
from kancl.plugins.steps.owm import OWMPlugin
from kancl.plugins.steps.step_preconditioner import GramPlugin, OccupancyPlugin

FACTORIES = {
    "agem": lambda: AGEMPlugin(mem_size=12),
    "best_epoch": lambda: BestEpochPlugin(
        stream=split_mnist(train_samples=8, test_samples=8).test_stream
    ),
    "ewc": lambda: EWCPlugin(ewc_lambda=10.0),
    "ewc_batched": BatchedEWCPlugin,
    "from_scratch": FromScratchPlugin,
    "gdumb": lambda: MemoryOnlyPlugin(mem_size=12),
    "gem": lambda: GEMPlugin(patterns_per_experience=4),
    "l2_anchor": L2AnchorPlugin,
    "lwf": LwFPlugin,
    "drift_penalty": DriftPenaltyPlugin,
    "epoch_decay": lambda: EpochDecayPlugin(gamma=0.5),
    "clip_gradients": lambda: GradientClippingPlugin(max_norm=1e-3),
    "experience_decay": lambda: ExperienceDecayPlugin(gamma=0.5),
    "freeze_base": FrozenBasePlugin,
    "gram": lambda: GramPlugin(structure="blocks"),
    "grow_grids": lambda: GridGrowthPlugin(off_grid=1.0),
    "hard_mask": HardMaskPlugin,
    "lazy": LazyStepsPlugin,
    "linear_decay": LinearDecayPlugin,
    "mas": MASPlugin,
    "mir": lambda: MIRPlugin(mem_size=12),
    "occupancy": OccupancyPlugin,
    "optimizer_state": lambda: OptimizerStatePlugin(reset=True),
    "owm": OWMPlugin,
    "owm_blocks": lambda: OWMPlugin(block_size=500),
    "replay": lambda: ReplayPlugin(mem_size=12),
    "ridge_readout": RidgeReadoutPlugin,
    "sparsity": SparsityPlugin,
    "si": lambda: SynapticIntelligencePlugin(si_c=1.0),
}
WITHOUT_EDGE_SCALE = {"ridge_readout", "occupancy", "gram", "owm", "owm_blocks"}
"""Plugins that want features common to all outputs of a layer."""
OTHERS = {
    "NearestMeanPlugin",
    "SplineBayesPlugin",
    "LabelsTrickPlugin",
    "QuietEvaluationPlugin",
    "TensorLoadingPlugin",
}
"""Plugins whose own tests say what they do: they act on nothing here."""


@pytest.fixture(scope="module")
def benchmark():
    return split_mnist(train_samples=16, test_samples=4)


def strategy_with(*plugins, scale=True):
    torch.manual_seed(0)
    network = KAN([784, 4, 10], enable_standalone_scale_spline=scale)
    model = with_head(network, "growing", 10)
    return Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.05),
        train_mb_size=8,
        eval_mb_size=8,
        plugins=plugins,
        evaluator=EvaluationPlugin(loggers=[BaseLogger()]),
    )


def _is_plugin(value):
    is_class = inspect.isclass(value) and get_origin(value) is None  # list[int] is none
    return is_class and issubclass(value, SupervisedPlugin)


def plugin_classes():
    """All final plugins of kancl, observers included."""
    found = set()
    for package in (kancl.plugins, kancl.observe):
        prefix = f"{package.__name__}."
        for file in pkgutil.walk_packages(package.__path__, prefix):
            module = importlib.import_module(file.name)
            for value in vars(module).values():
                if _is_plugin(value):
                    found.add(value)
    ours = {cls for cls in found if cls.__module__.startswith("kancl.")}
    return {cls for cls in ours if not any(o.__mro__[1] is cls for o in ours)}


def test_every_plugin_says_its_stage_and_is_under_a_contract():
    classes = plugin_classes() - {LazyEvaluationPlugin}
    assert len(classes) > 30
    for cls in classes:
        assert issubclass(cls, Plugin), cls
    methods = {c for c in classes if c.__module__.startswith("kancl.plugins.")}
    made = {type(factory()) for factory in FACTORIES.values()}
    assert {c.__name__ for c in methods - made} == OTHERS


@pytest.mark.parametrize("name", FACTORIES)
def test_a_plugin_declares_all_it_keeps_and_its_keys_are_keyword_only(name):
    plugin = FACTORIES[name]()
    assert undeclared(plugin) == []
    assert Stage(plugin.stage)
    parameters = inspect.signature(type(plugin)).parameters.values()
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters)
    assert not set(plugin.state) & set(plugin.transient)


@pytest.mark.parametrize("name", FACTORIES)
def test_plugin_contract(name, benchmark):
    first, second = list(benchmark.train_stream)[:2]
    plugin = FACTORIES[name]()
    for hook, function in inspect.getmembers(plugin, inspect.ismethod):
        if hook.startswith(("before_", "after_")):
            kinds = {p.kind for p in inspect.signature(function).parameters.values()}
            assert inspect.Parameter.VAR_KEYWORD in kinds, f"{hook} lacks **kwargs"
            assert hasattr(SupervisedPlugin, hook), f"no strategy ever calls {hook}"
    strategy = strategy_with(plugin, scale=name not in WITHOUT_EDGE_SCALE)
    strategy.train(first)
    assert strategy.model.training  # as the loop left it
    grids = {n: b.clone() for n, b in strategy.model.named_buffers() if "grid" in n}
    strategy.eval(benchmark.test_stream[0])
    strategy.train(second)
    assert grids
    for n, buffer in strategy.model.named_buffers():
        if "grid" in n and n in grids:
            assert torch.equal(buffer, grids[n])  # grids aren't trained
    assert all(torch.isfinite(p).all() for p in strategy.model.parameters())
    assert undeclared(plugin) == []  # training has added nothing that is not declared


@pytest.mark.parametrize(
    "name",
    [
        "ewc",
        "mas",
        "si",
        "l2_anchor",
    ],
)
def test_importances_see_coefficients_and_heads_but_no_grid(name, benchmark):
    plugin = FACTORIES[name]()
    strategy = strategy_with(plugin)
    for experience in list(benchmark.train_stream)[:2]:
        strategy.train(experience)
    importance = plugin.anchor.importance
    assert importance.keys() == {n for n, _ in strategy.model.named_parameters()}
    assert all(i.abs().sum() > 0 for i in importance.values())
    coefficients = [n for n in importance if n.endswith("coefficients")]
    assert len(coefficients) >= 3  # hidden layer, and a head per experience
    assert not any("grid" in n for n in importance)


@pytest.mark.parametrize(
    "name",
    [
        "ewc",
        "mas",
        "si",
        "l2_anchor",
    ],
)
def test_heads_of_tasks_to_come_are_left_alone(name):
    """They may exist from the start; an anchor on them would keep them untrained."""
    plugin = FACTORIES[name]()
    tasks = split_mnist(train_samples=16, test_samples=4, incremental="task")
    model = with_head(KAN([784, 4, 2]), "multi", 2)
    for experience in tasks.train_stream:
        model.adaptation(experience)
    strategy = strategy_with(plugin)
    strategy.model = model
    strategy.optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.5)
    untouched = [p.detach().clone() for p in model.heads["2"].parameters()]
    strategy.train(list(tasks.train_stream)[:2])
    assert {n.split(".")[1] for n in plugin.anchor.importance if "heads" in n} == {
        "0",
        "1",
    }
    for now, before in zip(model.heads["2"].parameters(), untouched):
        assert torch.equal(now, before)


@pytest.mark.parametrize(
    "name",
    [
        "agem",
        "ewc",
        "lwf",
        "mas",
        "mir",
        "replay",
    ],
)
def test_first_experience_is_trained_as_naive_trains_it(name, benchmark):
    """Nothing is known of the past then, so the loss and its gradient are untouched."""
    models = []
    for plugins in ([], [FACTORIES[name]()]):
        strategy = strategy_with(*plugins)
        strategy.train(benchmark.train_stream[0])
        models.append(dict(strategy.model.named_parameters()))
    for n, p in models[0].items():
        assert torch.equal(p, models[1][n]), n
