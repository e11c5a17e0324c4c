"""Avalanche's loop, without asking those who have nothing to do in it."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from avalanche.core import SupervisedPlugin
from avalanche.evaluation import PluginMetric
from avalanche.logging import BaseLogger
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.templates import SupervisedTemplate
from torch.optim import Optimizer

from kancl.plugins.state import Unresumable

_BEGINNINGS = ("before_training_epoch", "before_eval_dataset_adaptation")
_PARTS = "training_iteration forward backward update eval_iteration eval_forward"
_HOOKS = (
    *_BEGINNINGS,
    *(f"{when}_{part}" for part in _PARTS.split() for when in ("before", "after")),
)


class LazyEvaluationPlugin(EvaluationPlugin):
    """Avalanche's evaluator, woken only at hooks which a metric or logger overrides.

    Avalanche's own copies the experience, and looks up each of its own attributes in
    Python, at all eight hooks of an iteration: 5 % of an MLP's time. Metrics and
    loggers, those added while training too, are called as Avalanche calls them, and
    values published by hand are logged at the next hook.

    Attributes:
        measured: what ``train`` and ``eval`` return beside the metrics' values.
    """

    measured: Callable[[], Mapping[str, Any]] = dict

    __getattribute__ = object.__getattribute__  # Avalanche's runs Python code each time

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("before_", "after_")):
            return lambda strategy, **_: self._update_metrics_and_loggers(
                strategy, name
            )
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    def _update_metrics_and_loggers(self, strategy: Any, callback: str) -> None:
        if self._metric_values or self.hears(callback):
            super()._update_metrics_and_loggers(strategy, callback)

    def get_last_metrics(self) -> dict[str, Any]:
        return {**super().get_last_metrics(), **self.measured()}

    def state_dict(self) -> dict[str, Any]:
        """Raises: Unresumable if there are metrics: theirs is no state of a run."""
        if self.metrics:
            raise Unresumable("an evaluator's metrics can't be part of a state")
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing is kept."""

    def hears(self, hook: str) -> bool:
        """Whether a metric or logger has something to do at a hook."""
        return any(overrides(metric, hook) for metric in self.metrics) or any(
            type(logger).log_metrics is not BaseLogger.log_metrics
            or overrides(logger, hook)
            for logger in self.loggers
        )


def overrides(listener: Any, hook: str) -> bool:
    """Whether the hook is there, and another one than the empty one of Avalanche."""
    method = getattr(listener, hook, None)
    function = getattr(method, "__func__", method)
    return function is not None and all(
        function is not getattr(base, hook, None)
        for base in (PluginMetric, SupervisedPlugin)
    )


class DirectHooks:
    """Call, at the hooks of an iteration, the plugins that override them.

    Avalanche asks every plugin at every hook: with kancl's plugins, 60 calls per
    iteration of which 3 do something. Here they are looked up when an epoch or an
    evaluated experience begins, and again as soon as ``strategy.plugins``, or the
    evaluator's metrics or loggers, no longer equal those known. Order and arguments are
    Avalanche's. A plugin that is added at a hook is called from the next one on.

    Args:
        strategy: its ``_before_forward()`` etc. are replaced, except those that its
            class has replaced already.
    """

    def __init__(self, strategy: Any) -> None:
        self._strategy = strategy
        self._known: tuple[list[Any], ...] = ()
        self._methods: dict[str, list[Callable[..., Any]]] = {}
        for hook in _HOOKS:
            name = f"_{hook}"
            if getattr(type(strategy), name) is getattr(SupervisedTemplate, name):
                setattr(strategy, name, partial(self.call, hook))

    def call(self, hook: str, **kwargs: Any) -> None:
        strategy, evaluator = self._strategy, self._strategy.evaluator
        now = strategy.plugins, evaluator.metrics, evaluator.loggers
        if now != self._known or hook in _BEGINNINGS:
            self._known = tuple(each[:] for each in now)
            self._methods = {
                each: [getattr(p, each) for p in strategy.plugins if _acts(p, each)]
                for each in _HOOKS
            }
        for method in self._methods[hook]:
            method(strategy, **kwargs)


def clear_gradients_directly(optimizer: Optimizer) -> None:
    """Let ``optimizer.zero_grad()`` leave no mark for torch's profiler: it takes longer.

    An optimizer whose class has its own ``zero_grad`` keeps it.
    """
    if type(optimizer).zero_grad is Optimizer.zero_grad:
        optimizer.zero_grad = partial(_clear, optimizer)  # type: ignore[method-assign]


def _clear(optimizer: Optimizer, set_to_none: bool = True) -> None:
    if not set_to_none:
        return Optimizer.zero_grad(optimizer, set_to_none=False)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


def _acts(plugin: SupervisedPlugin, hook: str) -> bool:
    if isinstance(plugin, LazyEvaluationPlugin):
        return plugin.hears(hook)
    return overrides(plugin, hook)
