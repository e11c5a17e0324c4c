"""How much of its input each spline layer sees outside its grid."""

from collections.abc import Iterable
from typing import Any

import torch

from kancl.metrics.diagnosis import Samples
from kancl.models.inspect import off_grid_shares, spline_network
from kancl.observe.recorder import RecorderPlugin
from kancl.plugins.plugin import Plugin, Stage

OFF_GRID = "off_grid_share_layer_"
"""Begin of the measurements' names; layers count from 1."""


class OffGridPlugin(Plugin):
    """Record, per layer, the share of input values that lie outside the layer's grid.

    There a plain spline is 0 and learns nothing. Several heads count as one layer, the
    last. Measured before training and after each experience, on samples of all
    experiences; not for a network without ``off_grid_share`` (an MLP). Put it behind
    the recorder.

    Args:
        samples_per_experience: spread evenly over each experience's rows.
    """

    stage = Stage.OBSERVE
    state = ("shares",)
    transient = ("_x", "_recorder")

    def __init__(
        self,
        recorder: RecorderPlugin,
        test_stream: Iterable[Any],
        samples_per_experience: int = 50,
    ) -> None:
        super().__init__()
        if samples_per_experience < 1:
            raise ValueError(
                f"samples_per_experience must be at least 1, got {samples_per_experience}"
            )
        self.shares: list[float] = []
        """The latest, one per layer."""
        self._recorder = recorder
        parts = Samples(test_stream, samples_per_experience).parts
        self._x = torch.cat([x for x, _, _ in parts])

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        if not self.shares:
            self._measure(strategy)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self._measure(strategy)

    def _measure(self, strategy: Any) -> None:
        if spline_network(strategy.model) is None:
            return
        with self._recorder.evaluating(strategy.device):
            self._x = self._x.to(strategy.device)
            self.shares = off_grid_shares(strategy.model, self._x.flatten(1))
        for layer, share in enumerate(self.shares, start=1):
            self._recorder.add(f"{OFF_GRID}{layer}", share)
