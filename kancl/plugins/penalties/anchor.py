"""Squared distances to past parameters, weighted by importance, in constant memory."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from kancl.models.inspect import kan_layers, trainable
from kancl.plugins.plugin import Plugin, Stage
from kancl.plugins.samples import occupancies
from kancl.splines import Insertion

Pooling = Literal["none", "knot", "occupancy"]

SAMPLES = 2_000  # of an experience: occupancies are means, and settle soon


def values(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of the trainable parameters by name."""
    return {name: p.detach().clone() for name, p in trainable(model).items()}


class QuadraticAnchor:
    """Hold ``sum_k sum_i F_ki (theta_i - theta_ki)^2`` for any number of experiences k.

    Kept as ``sum_i A_i (theta_i - m_i)^2 + c`` with ``A = sum_k F_k`` and ``m`` the
    mean of the ``theta_k`` weighted by ``F_k``: the same function of theta, two tensors
    per parameter however many experiences there were, and no cancellation of large
    terms. Parameters are keyed by name. One that appears later is free until it is
    added; one that has grown along an axis is held in its old part.
    """

    def __init__(self) -> None:
        self.importance: dict[str, Tensor] = {}
        self.centre: dict[str, Tensor] = {}
        self.constant = 0.0

    def __bool__(self) -> bool:
        return bool(self.importance)

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)

    @torch.no_grad()
    def add(self, importance: Mapping[str, Tensor], at: Mapping[str, Tensor]) -> None:
        """Add the term ``sum_i importance_i (theta_i - at_i)^2``; importances >= 0."""
        for name, old, new in self._relevant(importance):
            centre = _overlaid(at[name], self.centre.get(name))
            total = old + new
            share = torch.where(total > 0, new / total, torch.ones_like(new))
            self.constant += float((old * share * (at[name] - centre) ** 2).sum())
            self.importance[name] = total
            self.centre[name] = torch.lerp(centre, at[name], share)

    @torch.no_grad()
    def move(
        self,
        importance: Mapping[str, Tensor],
        to: Mapping[str, Tensor],
        decay: float = 1.0,
    ) -> None:
        """Make the importance ``decay * old + importance``, the centre ``to``."""
        for name, old, new in self._relevant(importance):
            self.importance[name] = decay * old + new
            self.centre[name] = to[name].clone()

    @torch.no_grad()
    def carry(self, name: str, insertion: Insertion) -> None:
        """Take along the spline coefficients ``name`` whose grid has changed.

        The centre stays the same function; each importance is divided among the
        coefficients that its own became.
        """
        if name in self.importance:
            self.centre[name] = insertion.values(self.centre[name])
            self.importance[name] = insertion.shares(self.importance[name])

    def penalty(self, parameters: Mapping[str, Tensor], factor: float = 1.0) -> Tensor:
        """Return ``factor`` times the sum at the parameters, differentiable."""
        if not self:
            return torch.zeros((), device=next(iter(parameters.values())).device)
        held = [_part(parameters[name], a) for name, a in self.importance.items()]
        importances = list(self.importance.values())
        centres = [self.centre[name] for name in self.importance]
        constants = self.constant, factor
        total: Tensor = _Distances.apply(constants, importances, centres, *held)
        return total

    @torch.no_grad()
    def pull(self, parameters: Mapping[str, Tensor], strength: float) -> None:
        """Step down ``strength / 2`` times the sum, implicitly: it can't overshoot.

        ``theta <- a theta + (1 - a) m``, ``a = 1 / (1 + strength A)``: the theta that
        the gradient taken *there* leads to.
        """
        for name, importance in self.importance.items():
            share = strength * importance / (1 + strength * importance)
            _part(parameters[name], importance).lerp_(self.centre[name], share)

    def _relevant(
        self, importance: Mapping[str, Tensor]
    ) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Old and new importances but for what never mattered: heads still to come.

        A penalty of 0 would still give them gradients, hence weight decay.
        """
        for name, new in importance.items():
            if name in self.importance or new.any():
                old = _overlaid(torch.zeros_like(new), self.importance.get(name))
                yield name, old, new


@dataclass(kw_only=True, eq=False)
class AnchorPlugin(Plugin):
    """Add ``factor * sum_k sum_i F_ki (theta_i - theta_ki)^2`` to the loss.

    Attributes:
        strength: name of the key that ``factor`` is.
        decay: of former importances, when an experience's own join them.
    """

    stage = Stage.PENALTY
    state: ClassVar[tuple[str, ...]] = ("anchor",)
    transient: ClassVar[tuple[str, ...]] = ("_parameters",)
    strength: ClassVar[str]
    decay: ClassVar[float] = 1.0

    anchor: QuadraticAnchor = field(default_factory=QuadraticAnchor, init=False)
    _parameters: dict[str, nn.Parameter] = field(default_factory=dict, init=False)
    """The trainable ones, by name: looked up once per experience."""

    @property
    def factor(self) -> float:
        return float(getattr(self, self.strength))

    @abstractmethod
    def importance(self, strategy: Any) -> dict[str, Tensor]:
        """Return what the experience just trained adds, by parameter."""

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self._parameters = trainable(strategy.model)

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        if self.anchor:
            strategy.loss += self.anchor.penalty(self._parameters, self.factor)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        importance = self.importance(strategy)
        self.anchor.move(importance, values(strategy.model), self.decay)

    def on_grid_change(
        self, model: nn.Module, name: str, layer: Any, insertion: Insertion
    ) -> None:
        self.anchor.carry(f"{name}.coefficients", insertion)
        self._parameters = trainable(model)


def pooled(
    importance: dict[str, Tensor], pooling: Pooling, strategy: Any
) -> dict[str, Tensor]:
    """Importances with those of spline coefficients pooled or normalised.

    ``knot``: an input's basis has one importance, the mean over the outputs.
    ``occupancy``: divided by how much the present experience uses the basis, relative
    to the layer's mean use: what is seldom used and yet matters is held as firmly.
    """
    changed = dict(importance)
    if pooling == "none":
        return changed
    used = occupancies(strategy, SAMPLES) if pooling == "occupancy" else {}
    for name in kan_layers(strategy.model):
        key = f"{name}.coefficients"
        if key not in importance:
            continue
        if pooling == "knot":
            mean = importance[key].mean(-1, keepdim=True)
            changed[key] = mean.expand_as(importance[key]).clone()
        elif name in used:
            share = used[name].mean / used[name].mean.mean()
            share = share.clamp(min=1e-3).to(importance[key].dtype)
            changed[key] = importance[key] / share.unsqueeze(-1)
    return changed


class _Distances(torch.autograd.Function):
    """``f (sum_i A_i (theta_i - m_i)^2 + c)`` over lists of tensors, in few calls of torch.

    The gradient is made as torch makes it of the formula, in the same order.
    """

    @staticmethod
    def forward(
        ctx: Any,
        constants: tuple[float, float],
        importances: list[Tensor],
        centres: list[Tensor],
        *held: Tensor,
    ) -> Tensor:
        drifts = torch._foreach_sub(held, centres)
        (constant, ctx.factor), ctx.importances = constants, importances
        ctx.drifts = drifts
        terms = torch._foreach_pow(drifts, 2)
        torch._foreach_mul_(terms, importances)
        total = reduce(Tensor.add_, map(torch.sum, terms))
        return total.add_(constant).mul_(ctx.factor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        slopes = torch._foreach_mul(ctx.importances, gradient * ctx.factor)
        torch._foreach_mul_(slopes, torch._foreach_add(ctx.drifts, ctx.drifts))
        return None, None, None, *slopes


def _part(grown: Tensor, like: Tensor) -> Tensor:
    """View the leading part of ``grown`` that has the shape of ``like``."""
    if grown.shape == like.shape:
        return grown
    return grown[tuple(slice(n) for n in like.shape)]


def _overlaid(grown: Tensor, old: Tensor | None) -> Tensor:
    """Copy ``grown``, with ``old`` (None: nothing) as its leading part."""
    made = grown.clone()
    if old is not None:
        _part(made, old).copy_(old)
    return made
