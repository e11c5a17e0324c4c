"""Coefficients that a past experience visited never move again."""

from __future__ import annotations

from typing import Any

from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor

from kancl.metrics.locality import VISITED
from kancl.plugins.hyperparameters import non_negative
from kancl.plugins.locality.watch import kan_layers, named_as_shown, occupancies
from kancl.plugins.measuring.recorder import RecorderPlugin
from kancl.plugins.steps.frozen_coefficients import HeldCoefficients
from kancl.splines import Insertion


class HardMaskPlugin(SupervisedPlugin):
    """Hold every coefficient whose basis a past experience's samples touched.

    By the drift bound a single spline layer then forgets nothing (what lies below the
    threshold aside). The price is plasticity: ``free_share`` says what is left to learn
    with, and where experiences overlap that is next to nothing.

    Args:
        threshold: a coefficient is visited where its basis exceeds this.
        recorder: is told, after each experience, each layer's free share
            (``locality_free_share_<layer>``); a head per task is told one by one.
    Raises: ValueError if ``threshold`` is negative.
    """

    puts_back = True

    def __init__(
        self, threshold: float = VISITED, recorder: RecorderPlugin | None = None
    ) -> None:
        super().__init__()
        self._recorder = recorder
        self.threshold = non_negative("threshold", threshold, "0 counts any touch")
        self.visited: dict[str, Tensor] = {}
        """By layer, ``(in_features, n_basis)``."""
        self._held: HeldCoefficients | None = None

    @property
    def free_share(self) -> dict[str, float]:
        """Of each layer, the share of coefficients that may still move."""
        return {n: 1 - float(v.double().mean()) for n, v in self.visited.items()}

    def carry(self, name: str, insertion: Insertion) -> None:
        """Take along the mask of a layer whose grid has changed.

        Whatever a visited coefficient became is visited.
        """
        if name in self.visited:
            visited = self.visited[name].double()
            self.visited[name] = insertion.shares(visited) > 0

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        layers = kan_layers(strategy.model)
        held = {layers[name]: rows for name, rows in self.visited.items()}
        self._held = HeldCoefficients(held, strategy.optimizer)

    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        assert self._held is not None
        self._held.put_back(strategy.optimizer)
        self._held = None

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        for name, occupancy in occupancies(strategy).items():
            now = occupancy.visited(self.threshold)
            self.visited[name] = now | self.visited.get(name, now)
        if self._recorder is not None:
            for name, share in self.free_share.items():
                shown = named_as_shown(strategy.model, name)
                self._recorder.add(f"locality_free_share_{shown}", share)
