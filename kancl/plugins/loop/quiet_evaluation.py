"""Evaluation that leaves no trace in training's random stream."""

from __future__ import annotations

from typing import Any

import torch

from kancl.plugins.plugin import Plugin, Stage


class QuietEvaluationPlugin(Plugin):
    """Put torch's random state back after each evaluation.

    Every iterator over a torch DataLoader draws a seed, an evaluating one too: without
    this, how often a run is evaluated decides its weights.
    """

    stage = Stage.EVALUATION_GUARD
    transient = ("_state",)

    def before_eval(self, strategy: Any, **kwargs: Any) -> None:
        self._state = torch.random.get_rng_state()

    def after_eval(self, strategy: Any, **kwargs: Any) -> None:
        torch.random.set_rng_state(self._state)
