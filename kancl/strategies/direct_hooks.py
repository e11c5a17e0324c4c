"""Avalanche's hooks, without asking plugins that have nothing to do at them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from avalanche.training.templates import SupervisedTemplate

from kancl.plugins.loop.lazy_evaluation import LazyEvaluationPlugin, overrides

_BEGINNINGS = ("before_training_epoch", "before_eval_dataset_adaptation")
_HOOKS = (
    *_BEGINNINGS,
    "before_training_iteration",
    "before_forward",
    "after_forward",
    "before_backward",
    "after_backward",
    "before_update",
    "after_update",
    "after_training_iteration",
    "before_eval_iteration",
    "before_eval_forward",
    "after_eval_forward",
    "after_eval_iteration",
)


class DirectHooks:
    """Call, at the hooks of an iteration, the plugins that override them.

    Avalanche asks every plugin at every hook, and most answer with an empty method: with
    kancl's plugins, 60 calls per iteration of which 3 do something. Here they are looked
    up when an epoch or an evaluated experience begins, and again as soon as
    ``strategy.plugins``, or the metrics or loggers of a :class:`LazyEvaluationPlugin`,
    are other ones. Order and arguments are Avalanche's. A plugin that is added at a hook
    is called from the next one on.

    Args:
        strategy: its ``_before_forward()`` etc. are replaced, except those that its
            class has replaced already.
    """

    def __init__(self, strategy: Any) -> None:
        self._strategy = strategy
        self._known: list[int] = []
        self._methods: dict[str, list[Callable[..., Any]]] = {}
        for hook in _HOOKS:
            name = f"_{hook}"
            if getattr(type(strategy), name) is getattr(SupervisedTemplate, name):
                setattr(strategy, name, partial(self.call, hook))

    def call(self, hook: str, **kwargs: Any) -> None:
        strategy = self._strategy
        evaluator = strategy.evaluator
        known = [*map(id, strategy.plugins), *map(id, evaluator.metrics)]
        known += map(id, evaluator.loggers)
        if known != self._known or hook in _BEGINNINGS:
            self._known = known
            self._methods = {hook: self._look_up(hook) for hook in _HOOKS}
        for method in self._methods[hook]:
            method(strategy, **kwargs)

    def _look_up(self, hook: str) -> list[Callable[..., Any]]:
        return [
            getattr(plugin, hook)
            for plugin in self._strategy.plugins
            if (
                plugin.hears(hook)
                if isinstance(plugin, LazyEvaluationPlugin)
                else overrides(plugin, hook)
            )
        ]
