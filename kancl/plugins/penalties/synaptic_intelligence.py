"""Synaptic intelligence: importance from the path that training took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kancl.config.values import NonNegative, Positive
from kancl.plugins.penalties.pooling import Pooling, pooled
from kancl.plugins.penalties.quadratic_anchor import AnchorPlugin, trainable, values


@dataclass(kw_only=True, eq=False)
class SynapticIntelligencePlugin(AnchorPlugin):
    """Hold parameters by how much their movement lowered the loss so far (SI).

    ``omega_i = -sum_steps g_i dtheta_i``; at the end of an experience ``Omega_i +=
    omega_i / (Delta_i^2 + damping)``, ``Delta_i`` the way made in it; ``loss += si_c
    sum_i Omega_i (theta_i - theta*_i)^2``, ``theta*`` the latest end. ``g`` is the
    gradient that the step was made with, penalty included.

    Args:
        si_c: strength c.
        damping: keeps Omega bounded where a parameter hardly moved.
        pooling: of spline coefficients' importances: none; knot: one per input's basis;
            occupancy: divided by how much the experience used the basis.
    Raises: ValueError if ``si_c`` is negative or ``damping`` is not above 0.
    Source: Zenke, Poole, Ganguli 2017, arXiv:1703.04200, eqs. 3-5; g as in van de Ven
        and Tolias 2019, arXiv:1904.07734. differs from Avalanche, whose copies of the
        weights alias them on the CPU, so that its importances are 0.
    """

    state = ("anchor", "_path", "_start", "_before_step")

    si_c: NonNegative = 0.1
    damping: Positive = 0.1
    pooling: Pooling = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._path: dict[str, Tensor] = {}
        self._start: dict[str, Tensor] = {}
        self._before_step: dict[str, Tensor] = {}

    @property
    def factor(self) -> float:
        return self.si_c

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self._start = values(strategy.model)
        self._before_step = values(strategy.model)
        self._path = {name: torch.zeros_like(p) for name, p in self._start.items()}

    @torch.no_grad()
    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        for name, p in trainable(strategy.model).items():
            self._before_step[name].copy_(p)

    @torch.no_grad()
    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        for name, p in trainable(strategy.model).items():
            if p.grad is not None:
                self._path[name].addcmul_(p.grad, self._before_step[name] - p)

    @torch.no_grad()
    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        end = values(strategy.model)
        gained = {
            name: path / ((end[name] - self._start[name]) ** 2 + self.damping)
            for name, path in self._path.items()
        }
        gained = pooled(gained, self.pooling, strategy)
        self.anchor.move(gained, to=end)
