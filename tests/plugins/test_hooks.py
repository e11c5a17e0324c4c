"""Hooks that skip idle plugins, beside Avalanche's own that skip none."""

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.evaluation import PluginMetric
from avalanche.evaluation.metric_results import MetricValue
from avalanche.logging import BaseLogger
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive
from torch import nn

from kancl.benchmarks import split_mnist
from kancl.plugins.hooks import (
    DirectHooks,
    LazyEvaluationPlugin,
    clear_gradients_directly,
)

HOOKS = [h for h in dir(SupervisedPlugin) if h.startswith(("before_", "after_"))]


@pytest.fixture(scope="module")
def benchmark():
    return split_mnist(train_samples=12, test_samples=6)


def listener(base, label, calls, hooks=HOOKS):
    """A plugin, metric or logger that notes its label and the hook at some hooks."""

    def note(hook):
        def method(self, strategy, *args, **kwargs):
            calls.append((label, hook, strategy.experience is not None))
            if base is PluginMetric:
                return MetricValue(self, label, 1.0, len(calls))

        return method

    methods = {hook: note(hook) for hook in hooks}
    if base is PluginMetric:
        methods |= {"result": lambda self: None, "reset": lambda self: None}
    if base is BaseLogger:
        methods["log_single_metric"] = lambda self, name, value, x: calls.append(
            (label, name, value)
        )
    return type(label, (base,), methods)()


def build(plugins, evaluator, cls=Naive):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    return cls(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        train_mb_size=5,
        train_epochs=2,
        eval_mb_size=4,
        plugins=plugins,
        evaluator=evaluator,
    )


def run(benchmark, direct):
    calls = []
    some = ["before_training_exp", "after_update", "after_eval_forward"]
    plugins = [
        listener(SupervisedPlugin, "all", calls),
        SupervisedPlugin(),
        listener(SupervisedPlugin, "some", calls, some),
        listener(object, "no base class", calls, some),
    ]
    plugins[1].after_forward = lambda strategy, **kwargs: calls.append("instance")
    metrics = [
        listener(PluginMetric, "metric", calls, ["after_backward", "after_eval"]),
        listener(PluginMetric, "other metric", calls, ["before_update"]),
    ]
    loggers = [listener(BaseLogger, "logger", calls, ["after_eval_exp"]), BaseLogger()]
    kind = LazyEvaluationPlugin if direct else EvaluationPlugin
    evaluator = kind(*metrics, loggers=loggers)
    strategy = build(plugins, evaluator)
    if direct:
        DirectHooks(strategy)
    for experience in list(benchmark.train_stream)[:2]:
        strategy.train(experience)
        strategy.eval(list(benchmark.test_stream)[:2])
    clock = dict(vars(strategy.clock))
    return calls, evaluator.get_all_metrics(), clock, strategy.model[1].weight


def test_everyone_is_called_as_by_avalanche(benchmark):
    ours, stock = run(benchmark, True), run(benchmark, False)
    assert ours[0] == stock[0]
    assert len(ours[0]) > 250
    assert ours[1:3] == stock[1:3]
    assert torch.equal(ours[3], stock[3])


@pytest.mark.parametrize("kind", ["plugin", "metric", "logger"])
def test_who_joins_or_leaves_in_an_iteration_is_noticed_at_the_next_hook(
    kind, benchmark
):
    calls = []
    base = {"plugin": SupervisedPlugin, "metric": PluginMetric, "logger": BaseLogger}
    late = listener(base[kind], "late", calls, ["after_forward", "after_update"])

    class Door(SupervisedPlugin):
        def before_forward(self, strategy, **kwargs):
            if strategy.clock.train_iterations == 1:
                self.place(strategy).append(late)

        def before_update(self, strategy, **kwargs):
            if strategy.clock.train_iterations == 3:
                self.place(strategy).remove(late)

        def place(self, strategy):
            lists = {
                "plugin": strategy.plugins,
                "metric": strategy.evaluator.metrics,
                "logger": strategy.evaluator.loggers,
            }
            return lists[kind]

    strategy = build([Door()], LazyEvaluationPlugin(loggers=[BaseLogger()]))
    DirectHooks(strategy)
    strategy.train(benchmark.train_stream[0])
    assert [hook for _, hook, _ in calls] == [
        *2 * ["after_forward", "after_update"],
        "after_forward",
    ]


def test_a_hook_given_to_a_plugin_later_is_called_from_the_next_epoch_on(benchmark):
    calls = []

    class Changing(SupervisedPlugin):
        def after_training_epoch(self, strategy, **kwargs):
            self.before_forward = lambda strategy, **kwargs: calls.append("called")

    strategy = build([Changing()], LazyEvaluationPlugin(loggers=[BaseLogger()]))
    DirectHooks(strategy)
    strategy.train(benchmark.train_stream[0])
    assert calls == strategy.clock.train_epoch_iterations * ["called"]


def test_hooks_of_the_strategys_own_class_stay(benchmark):
    calls = []

    class Own(Naive):
        def _before_forward(self, **kwargs):
            calls.append("own")
            super()._before_forward(**kwargs)

    strategy = build([], LazyEvaluationPlugin(loggers=[BaseLogger()]), Own)
    DirectHooks(strategy)
    strategy.train(benchmark.train_stream[0])
    assert len(calls) == strategy.clock.train_iterations > 0


def test_metric_values_published_by_hand_are_logged(benchmark):
    calls = []
    logger = listener(BaseLogger, "logger", calls, [])
    evaluator = LazyEvaluationPlugin(loggers=[logger])

    class Publisher(SupervisedPlugin):
        def after_forward(self, strategy, **kwargs):
            value = MetricValue(self, "mine", 0.5, strategy.clock.train_iterations)
            strategy.evaluator.publish_metric_value(value)

    strategy = build([Publisher()], evaluator)
    DirectHooks(strategy)
    strategy.train(benchmark.train_stream[0])
    n = strategy.clock.train_iterations
    assert calls == n * [("logger", "mine", 0.5)]
    assert evaluator.get_all_metrics()["mine"] == (list(range(n)), n * [0.5])


def test_an_inactive_evaluator_collects_nothing(benchmark):
    calls = []
    evaluator = LazyEvaluationPlugin(
        listener(PluginMetric, "metric", calls), loggers=[BaseLogger()]
    )
    evaluator.active = False
    build([], evaluator).train(benchmark.train_stream[0])
    assert calls == [] and evaluator.get_all_metrics() == {}
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        evaluator.nothing


@pytest.mark.parametrize("set_to_none", [True, False])
def test_gradients_are_cleared_as_by_torch(set_to_none):
    found = []
    for direct in (True, False):
        p, idle = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
        optimizer = torch.optim.SGD([{"params": [p]}, {"params": [idle]}], lr=0.1)
        if direct:
            clear_gradients_directly(optimizer)
            assert "zero_grad" in vars(optimizer)
        p.sum().backward()
        optimizer.zero_grad(set_to_none)
        found.append([None if q.grad is None else q.grad.tolist() for q in (p, idle)])
    assert found[0] == found[1]
    assert found[0][0] == (None if set_to_none else [0.0, 0.0])


def test_an_optimizers_own_way_to_clear_gradients_stays():
    class Own(torch.optim.SGD):
        def zero_grad(self, set_to_none=True):
            super().zero_grad(set_to_none=False)

    optimizer = Own([nn.Parameter(torch.ones(2))], lr=0.1)
    clear_gradients_directly(optimizer)
    assert "zero_grad" not in vars(optimizer)
