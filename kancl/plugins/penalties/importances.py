"""Anchors by what makes a parameter important: nothing, use, outputs, or its path."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kancl.config.values import NonNegative, Positive
from kancl.data.rows import as_tensors
from kancl.models.inspect import kan_layers
from kancl.plugins.penalties.anchor import (
    SAMPLES,
    AnchorPlugin,
    Pooling,
    pooled,
    values,
)
from kancl.plugins.penalties.per_sample_gradients import gradient_moments
from kancl.plugins.plugin import Needs
from kancl.plugins.samples import occupancies


@dataclass(kw_only=True, eq=False)
class L2AnchorPlugin(AnchorPlugin):
    """Hold all parameters alike at their latest values: the control for importances.

    ``loss += l2_lambda |theta - theta*|^2``, ``theta*`` the parameters after the latest
    experience, of those trained so far: heads of tasks still to come are free.

    Args:
        l2_lambda: strength.
    Source: the "L2" control of Kirkpatrick et al. 2017, arXiv:1612.00796, fig. 2.
        Avalanche has none.
    """

    state = ("anchor", "_trained")
    strength = "l2_lambda"
    decay = 0.0

    l2_lambda: NonNegative = 1.0
    _trained: set[str] = field(default_factory=set, init=False)

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        parameters = self._parameters.items()
        self._trained.update(name for name, p in parameters if p.grad is not None)

    def importance(self, strategy: Any) -> dict[str, Tensor]:
        parameters = values(strategy.model).items()
        return {n: torch.ones_like(p) for n, p in parameters if n in self._trained}


@dataclass(kw_only=True, eq=False)
class DriftPenaltyPlugin(AnchorPlugin):
    """Hold spline coefficients by how much past experiences used them: no labels needed.

    ``loss += drift_lambda sum_pg o_pg |c_pg - c*_pg|^2``, ``o`` the occupancy summed over
    past experiences, ``c*`` the coefficients after the latest: the drift bound, squared.

    Args:
        drift_lambda: strength.
    Source: the bound of ``kancl.metrics.locality.drift_bound``.
    """

    needs = Needs(
        spline_bases="it weighs spline coefficients; use model=kan, or "
        "strategy=l2_anchor or strategy=ewc instead"
    )
    strength = "drift_lambda"

    drift_lambda: NonNegative = 1.0

    def importance(self, strategy: Any) -> dict[str, Tensor]:
        importance, layers = {}, kan_layers(strategy.model)
        for name, occupancy in occupancies(strategy, SAMPLES).items():
            coefficients = layers[name].coefficients
            if coefficients.requires_grad:
                of_rows = occupancy.mean.to(coefficients.dtype).unsqueeze(-1)
                key = f"{name}.coefficients"
                importance[key] = of_rows.expand_as(coefficients).clone()
        return importance


@dataclass(kw_only=True, eq=False)
class MASPlugin(AnchorPlugin):
    """Hold parameters by how strongly they move the outputs (memory-aware synapses).

    ``Omega_i += 1/N sum_n |d |f(x_n)|^2 / d theta_i|`` after each experience; ``loss +=
    mas_lambda sum_i Omega_i (theta_i - theta*_i)^2``, ``theta*`` the latest end. No
    labels are used.

    Args:
        mas_lambda: strength.
        pooling: of spline coefficients' importances: none; knot: one per input's basis;
            occupancy: divided by how much the experience used the basis.
    Source: Aljundi et al. 2018, arXiv:1711.09601, section 4. differs from Avalanche:
        absolute values per sample, not of a mini-batch's mean; importances are summed
        over experiences as in the paper's code, not averaged; a loss of exactly 0 is no
        failure.
    """

    strength = "mas_lambda"

    mas_lambda: NonNegative = 1.0
    pooling: Pooling = "none"

    def importance(self, strategy: Any) -> dict[str, Tensor]:
        x, y, task_labels = as_tensors(strategy.experience.dataset)
        x, y = x.to(strategy.device), y.to(strategy.device)
        sums = gradient_moments(
            strategy.model, x, y, task_labels, _squared_norm, power=1
        )
        importance = {name: moment / len(x) for name, moment in sums.items()}
        return pooled(importance, self.pooling, strategy)


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
    Source: Zenke, Poole, Ganguli 2017, arXiv:1703.04200, eqs. 3-5; g as in van de Ven
        and Tolias 2019, arXiv:1904.07734. differs from Avalanche, whose copies of the
        weights alias them on the CPU, so that its importances are 0.
    """

    state = ("anchor", "_path", "_start", "_before_step")
    transient = ("_parameters", "_moving")
    strength = "si_c"

    si_c: NonNegative = 0.1
    damping: Positive = 0.1
    pooling: Pooling = "none"
    _path: dict[str, Tensor] = field(default_factory=dict, init=False)
    _start: dict[str, Tensor] = field(default_factory=dict, init=False)
    _before_step: dict[str, Tensor] = field(default_factory=dict, init=False)
    _moving: dict[str, nn.Parameter] = field(default_factory=dict, init=False)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        super().before_training_exp(strategy, **kwargs)
        self._start = values(strategy.model)
        self._before_step = values(strategy.model)
        self._path = {name: torch.zeros_like(p) for name, p in self._start.items()}

    @torch.no_grad()
    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        moving = {n: p for n, p in self._parameters.items() if p.grad is not None}
        self._moving = moving
        if moving:
            before = [self._before_step[name] for name in moving]
            torch._foreach_copy_(before, list(moving.values()))

    @torch.no_grad()
    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        if moving := self._moving:
            steps = [self._before_step[name] for name in moving]
            torch._foreach_sub_(steps, list(moving.values()))
            paths = [self._path[name] for name in moving]
            slopes = [p.grad for p in moving.values() if p.grad is not None]
            torch._foreach_addcmul_(paths, slopes, steps)

    def importance(self, strategy: Any) -> dict[str, Tensor]:
        end = values(strategy.model)
        gained = {
            name: path / ((end[name] - self._start[name]) ** 2 + self.damping)
            for name, path in self._path.items()
        }
        return pooled(gained, self.pooling, strategy)


def _squared_norm(outputs: Tensor, targets: Tensor) -> Iterator[Tensor]:
    yield (outputs**2).sum(1)
