"""How much of its input each spline layer sees outside its grid."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from kancl.data.rows import as_tensors
from kancl.plugins.measuring.recorder import RecorderPlugin
from kancl.plugins.plugin import Plugin, Stage

OFF_GRID = "off_grid_share_layer_"
"""Begin of the measurements' names; layers count from 1."""


class OffGridPlugin(Plugin):
    """Record, per layer, the share of input values that lie outside the layer's grid.

    There a plain spline is 0 and learns nothing. Several heads count as one layer, the
    last. Measured before training and after
    each experience, on samples of all experiences. Does nothing for a network without
    ``off_grid_share`` (an MLP). Put it behind the recorder.

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
        with torch.random.fork_rng(devices=[]):  # a stock transform may draw
            parts = [as_tensors(e.dataset, samples_per_experience) for e in test_stream]
        self._x: Tensor = torch.cat([x for x, _, _ in parts])

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        if not self.shares:
            self._measure(strategy)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self._measure(strategy)

    @torch.no_grad()
    def _measure(self, strategy: Any) -> None:
        network = spline_network(strategy.model)
        if network is None:
            return
        with self._recorder.evaluating(strategy.device):
            self._x = self._x.to(strategy.device)
            self.shares = network.off_grid_share(self._x.flatten(1))
            heads = head_layers(strategy.model)
            if heads:
                features = network.features(self._x.flatten(1))
                shares = [head.off_grid_share(features) for head in heads]
                self.shares.append(sum(shares) / len(shares))
        for layer, share in enumerate(self.shares, start=1):
            self._recorder.add(f"{OFF_GRID}{layer}", share)


def spline_network(model: nn.Module) -> Any | None:
    """The network with spline layers in a model (itself, or what its heads stand on),
    None if there is none.
    """
    for module in model.modules():
        if hasattr(module, "off_grid_share") and hasattr(module, "features"):
            return module
    return None


def head_layers(model: nn.Module) -> list[Any]:
    """The spline layers beside the network: its growing or several heads, which
    together count as its last layer.
    """
    network = spline_network(model)
    own = set() if network is None else set(network.modules())
    return [m for m in model.modules() if hasattr(m, "coefficients") and m not in own]
