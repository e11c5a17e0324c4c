"""Avalanche's evaluator, at no cost where nobody listens."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from avalanche.core import SupervisedPlugin
from avalanche.evaluation import PluginMetric
from avalanche.logging import BaseLogger
from avalanche.training.plugins import EvaluationPlugin

from kancl.plugins.state import Unresumable

_DOING_NOTHING = (PluginMetric, SupervisedPlugin)


class LazyEvaluationPlugin(EvaluationPlugin):
    """Avalanche's evaluator, woken only at hooks which a metric or logger overrides.

    Avalanche's own copies the experience, and looks up each of its own attributes in
    Python, at all eight hooks of an iteration: 0.2 ms, which is 5 % of an MLP's time.
    Metrics and loggers, those added or changed while training too, are called as
    Avalanche calls them, and values published by hand are logged at the next hook.
    """

    __getattribute__ = object.__getattribute__  # Avalanche's runs Python code each time

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("before_", "after_")):
            return partial(self._at_hook, name)
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    def _at_hook(self, name: str, strategy: Any, **kwargs: Any) -> None:
        self._update_metrics_and_loggers(strategy, name)

    def _update_metrics_and_loggers(self, strategy: Any, callback: str) -> None:
        if self._metric_values or self.hears(callback):
            super()._update_metrics_and_loggers(strategy, callback)

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
        function is not getattr(base, hook, None) for base in _DOING_NOTHING
    )
