"""What every continual-learning plugin keeps, whatever it does to the loss."""

import importlib
import inspect
import pkgutil

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.logging import BaseLogger
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive

import kancl.plugins
from kancl.benchmarks import split_mnist
from kancl.models import KAN
from kancl.models.heads import with_head
from kancl.models.readouts import ridge_weights
from kancl.plugins.loop.optimizer_state import OptimizerStatePlugin
from kancl.plugins.outputs.lwf import LwFPlugin
from kancl.plugins.outputs.readout import ClosedFormReadoutPlugin
from kancl.plugins.penalties.drift_penalty import DriftPenaltyPlugin
from kancl.plugins.penalties.ewc import EWCPlugin
from kancl.plugins.penalties.l2_anchor import L2AnchorPlugin
from kancl.plugins.penalties.mas import MASPlugin
from kancl.plugins.penalties.synaptic_intelligence import (
    SynapticIntelligencePlugin,
)
from kancl.plugins.rehearsal.agem import AGEMPlugin
from kancl.plugins.rehearsal.from_scratch import FromScratchPlugin
from kancl.plugins.rehearsal.gdumb import MemoryOnlyPlugin
from kancl.plugins.rehearsal.memory import ExemplarMemory, GroupedExemplars
from kancl.plugins.rehearsal.mir import MIRPlugin
from kancl.plugins.rehearsal.replay import ReplayPlugin
from kancl.plugins.schedules.learning_rate import LinearDecayPlugin
from kancl.plugins.steps.frozen_base import FrozenBasePlugin
from kancl.plugins.steps.grid_growth import GridGrowthPlugin
from kancl.plugins.steps.hard_mask import HardMaskPlugin
from kancl.plugins.steps.lazy_steps import LazyStepsPlugin
from kancl.plugins.steps.preconditioners import DiagonalOccupancy
from kancl.plugins.steps.step_preconditioner import StepPreconditionerPlugin

FACTORIES = {
    "rehearsal.agem": lambda: AGEMPlugin(mem_size=12),
    "outputs.closed_form_readout": lambda: ClosedFormReadoutPlugin(
        lambda layer, sums: ridge_weights(sums, 1e-3), gram=True
    ),
    "regularization.ewc": lambda: EWCPlugin(ewc_lambda=10.0),
    "rehearsal.from_scratch": FromScratchPlugin,
    "rehearsal.gdumb": lambda: MemoryOnlyPlugin(GroupedExemplars(total=12)),
    "regularization.l2_anchor": lambda: L2AnchorPlugin(l2_lambda=1.0),
    "regularization.lwf": LwFPlugin,
    "training.learning_rate": LinearDecayPlugin,
    "locality.drift_penalty": lambda: DriftPenaltyPlugin(drift_lambda=1.0),
    "locality.frozen_base": FrozenBasePlugin,
    "locality.grid_growth": lambda: GridGrowthPlugin(1.0),
    "locality.hard_mask": HardMaskPlugin,
    "locality.lazy_steps": LazyStepsPlugin,
    "regularization.mas": lambda: MASPlugin(mas_lambda=1.0),
    "rehearsal.mir": lambda: MIRPlugin(mem_size=12),
    "training.optimizer_state": lambda: OptimizerStatePlugin(reset=True),
    "rehearsal.replay": lambda: ReplayPlugin(mem_size=12),
    "locality.step_preconditioner": lambda: StepPreconditionerPlugin(
        lambda layer, first: DiagonalOccupancy(1.0)
    ),
    "regularization.synaptic_intelligence": lambda: SynapticIntelligencePlugin(
        si_c=1.0
    ),
}
WITHOUT_EDGE_SCALE = {"outputs.closed_form_readout", "locality.step_preconditioner"}
"""Plugins that want features common to all outputs of a layer."""
MEASURING = {
    "measuring.epoch_evaluation",
    "measuring.off_grid",
    "measuring.quiet_evaluation",
    "measuring.recorder",
    "training.tensor_loading",
}
"""Plugins that change no training; their own tests say what they do."""


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


def test_every_plugin_file_is_under_a_contract():
    prefix = "kancl.plugins."
    modules = pkgutil.walk_packages(kancl.plugins.__path__, prefix)
    files = {module.name.removeprefix(prefix) for module in modules}
    with_plugin = set()
    for name in files:
        module = importlib.import_module(prefix + name)
        for value in vars(module).values():
            if inspect.isclass(value) and issubclass(value, SupervisedPlugin):
                if value.__module__ == module.__name__:
                    with_plugin.add(name)
    assert with_plugin - MEASURING == FACTORIES.keys()


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


@pytest.mark.parametrize(
    "name",
    [
        "regularization.ewc",
        "regularization.mas",
        "regularization.synaptic_intelligence",
        "regularization.l2_anchor",
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
        "regularization.ewc",
        "regularization.mas",
        "regularization.synaptic_intelligence",
        "regularization.l2_anchor",
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
        "rehearsal.agem",
        "regularization.ewc",
        "regularization.lwf",
        "regularization.mas",
        "rehearsal.mir",
        "rehearsal.replay",
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
