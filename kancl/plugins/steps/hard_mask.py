"""Coefficients that a past experience visited never move again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from kancl.config.values import NonNegative
from kancl.metrics.locality import VISITED
from kancl.models.inspect import kan_layers, shown_name
from kancl.plugins.occupancies import occupancies
from kancl.plugins.plugin import Needs, Plugin, Stage
from kancl.plugins.setup import Record, TrainingSetup
from kancl.plugins.steps.frozen_coefficients import FrozenCoefficients
from kancl.splines import Insertion


@dataclass(kw_only=True, eq=False)
class HardMaskPlugin(Plugin):
    """Freeze every spline coefficient whose basis a past experience's samples touched.

    By the drift bound a single spline layer then forgets nothing (what lies below the
    threshold aside). The price is plasticity: ``free_share`` says what is left to learn
    with, and where experiences overlap that is next to nothing. Each layer's share is
    recorded after each experience (``locality_free_share_<layer>``).

    Args:
        threshold: a coefficient is visited where its basis exceeds this.
    """

    stage = Stage.RESTORE
    state = ("visited",)
    transient = ("_frozen", "_record")
    needs = Needs(
        spline_bases="it freezes spline coefficients; use model=kan, or strategy=ewc or "
        "strategy=l2_anchor instead"
    )

    threshold: NonNegative = VISITED

    def __post_init__(self) -> None:
        super().__post_init__()
        self.visited: dict[str, Tensor] = {}
        """By layer, ``(in_features, n_basis)``."""
        self._frozen: FrozenCoefficients | None = None
        self._record: Record | None = None

    def prepare(self, setup: TrainingSetup) -> None:
        self._record = setup.record

    @property
    def free_share(self) -> dict[str, float]:
        """Of each layer, the share of coefficients that may still move."""
        return {n: 1 - float(v.double().mean()) for n, v in self.visited.items()}

    def on_grid_change(
        self, model: nn.Module, name: str, layer: Any, insertion: Insertion
    ) -> None:
        """Whatever a visited coefficient became is visited."""
        if name in self.visited:
            visited = self.visited[name].double()
            self.visited[name] = insertion.shares(visited) > 0

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        layers = kan_layers(strategy.model)
        frozen = {layers[name]: rows for name, rows in self.visited.items()}
        self._frozen = FrozenCoefficients(frozen, strategy.optimizer)

    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        assert self._frozen is not None
        self._frozen.put_back(strategy.optimizer)
        self._frozen = None

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        for name, occupancy in occupancies(strategy).items():
            now = occupancy.visited(self.threshold)
            self.visited[name] = now | self.visited.get(name, now)
        if self._record is not None:
            for name, share in self.free_share.items():
                shown = shown_name(strategy.model, name)
                self._record(f"locality_free_share_{shown}", share)
