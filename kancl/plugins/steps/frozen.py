"""Parameters that a step must not move: they are put back after it."""

from abc import abstractmethod
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from kancl.config.values import NonNegative
from kancl.metrics.locality import VISITED
from kancl.models import KANLinear
from kancl.models.inspect import kan_layers, shown_name, watching
from kancl.plugins.hooks import overrides
from kancl.plugins.plugin import Needs, Plugin, Record, Stage, TrainingSetup
from kancl.plugins.samples import occupancies
from kancl.splines import Insertion


@dataclass(kw_only=True, eq=False)
class FreezingPlugin(Plugin):
    """Put ``frozen`` rows of parameters, and of their moments, back after each step.

    Moments are optimizer state of the parameter's shape; what the step made starts at 0.
    """

    stage = Stage.RESTORE
    transient: ClassVar[tuple[str, ...]] = ("_before",)

    _before: list[tuple[nn.Parameter, Tensor, Tensor, dict[str, Tensor]]] = field(
        default_factory=list, init=False
    )

    @abstractmethod
    def frozen(self, strategy: Any) -> dict[nn.Parameter, Tensor]:
        """Return what must not move in the coming step.

        Boolean: ``(in_features, n_basis)`` of spline coefficients; one True for the
        whole of a parameter.
        """

    @torch.no_grad()
    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        for p, rows in self.frozen(strategy).items():
            moments = _moments(p, strategy.optimizer).items()
            before = {key: _kept(moment, rows) for key, moment in moments}
            self._before.append((p, rows, _kept(p, rows), before))

    @torch.no_grad()
    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        for parameter, rows, before, moments in self._before:
            _put_back(parameter, rows, before)
            for key, moment in _moments(parameter, strategy.optimizer).items():
                known = key in moments
                _put_back(moment, rows, moments[key] if known else moment.new_zeros(()))
        self._before.clear()


def _kept(tensor: Tensor, rows: Tensor) -> Tensor:
    """The rows as they are; on a GPU all, as it would be waited for to know how many."""
    return tensor[rows] if tensor.device.type == "cpu" else tensor.clone()


def _put_back(tensor: Tensor, rows: Tensor, before: Tensor) -> None:
    if tensor.device.type == "cpu":
        tensor[rows] = before
    else:
        torch.where(rows.unsqueeze(-1), before, tensor, out=tensor)


def _moments(parameter: nn.Parameter, optimizer: Optimizer) -> dict[str, Tensor]:
    return {
        key: value
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor) and value.shape == parameter.shape
    }


@dataclass(kw_only=True, eq=False)
class LazyStepsPlugin(FreezingPlugin):
    """Leave untouched spline coefficients, and their moments, as they are, to the bit.

    A coefficient whose basis was 0 at all samples of the batch has a loss gradient of
    exactly 0, and yet it moves: by momentum, Adam's moments, weight decay, a penalty.
    Here it does not, whatever the optimizer. Touched ones take their usual step; Adam's
    count of steps goes on for all, as in torch's ``SparseAdam``. The optimizer is made
    anew for each experience. Where plain SGD follows the batch's loss and nothing else,
    nothing has to be done. A method that moves weights after the step (Gram occupancy,
    an implicit pull) still does so.
    """

    stage = Stage.WATCH_STEP
    transient = ("_before", "_watching", "_inputs", "_loss")
    needs = Needs(
        spline_bases="it looks at which splines a batch touches; use model=kan instead"
    )

    _watching: ExitStack = field(default_factory=ExitStack, init=False)
    _inputs: dict[str, list[Tensor]] = field(init=False)
    _loss: Any = field(init=False)

    def prepare(self, setup: TrainingSetup) -> None:
        setup.reset_optimizer = True

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        self._inputs = defaultdict(list)
        layers = kan_layers(strategy.model).items()
        seen = watching(layers, lambda name, _, x: self._inputs[name].append(x))
        self._watching.enter_context(seen)

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        self._watching.close()

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        self._loss = strategy.loss.grad_fn

    def frozen(self, strategy: Any) -> dict[nn.Parameter, Tensor]:
        only_the_loss = strategy.loss.grad_fn is self._loss and not any(
            overrides(plugin, "after_backward")
            for plugin in strategy.plugins
            if plugin is not strategy.evaluator  # answers to any name, changes nothing
        )
        inputs, self._inputs, self._loss = self._inputs, {}, None
        optimizer = strategy.optimizer
        moves_on = any(group.get("momentum") for group in optimizer.param_groups)
        if only_the_loss and sums_gradients(optimizer) and not moves_on:
            return {}
        layers = kan_layers(strategy.model).items()
        return {m.coefficients: _idle(m, inputs[name]) for name, m in layers}


def _idle(layer: KANLinear, inputs: list[Tensor]) -> Tensor:
    """Which bases no sample touches, ``(in_features, n_basis)``."""
    if not inputs:
        shape = layer.coefficients.shape[:2]
        return torch.ones(shape, dtype=torch.bool, device=layer.grid.device)
    return reduce(torch.logical_and, map(layer.spline_grid.idle, inputs))


def sums_gradients(optimizer: Optimizer) -> bool:
    """Whether steps are sums of gradients: no scaling by element, no weight decay."""
    return isinstance(optimizer, torch.optim.SGD) and not any(
        group["weight_decay"] for group in optimizer.param_groups
    )


@dataclass(kw_only=True, eq=False)
class HardMaskPlugin(FreezingPlugin):
    """Freeze every spline coefficient whose basis a past experience's samples touched.

    By the drift bound a single spline layer then forgets nothing (what lies below the
    threshold aside). The price is plasticity: little is left to learn with where
    experiences overlap (``locality_free_share_<layer>``, recorded after each).

    Args:
        threshold: a coefficient is visited where its basis exceeds this.
    """

    state = ("visited",)
    transient = ("_before", "_record")
    needs = Needs(
        spline_bases="it freezes spline coefficients; use model=kan, or strategy=ewc or "
        "strategy=l2_anchor instead"
    )

    threshold: NonNegative = VISITED

    visited: dict[str, Tensor] = field(default_factory=dict, init=False)
    """By layer, ``(in_features, n_basis)``."""
    _record: Record | None = field(default=None, init=False)

    def prepare(self, setup: TrainingSetup) -> None:
        self._record = setup.record

    @property
    def free_share(self) -> dict[str, float]:
        """Share of each layer's coefficients that may still move."""
        return {n: 1 - float(v.double().mean()) for n, v in self.visited.items()}

    def on_grid_change(
        self, model: nn.Module, name: str, layer: Any, insertion: Insertion
    ) -> None:
        """Whatever a visited coefficient became is visited."""
        if name in self.visited:
            visited = self.visited[name].double()
            self.visited[name] = insertion.shares(visited) > 0

    def frozen(self, strategy: Any) -> dict[nn.Parameter, Tensor]:
        layers = kan_layers(strategy.model)
        return {layers[name].coefficients: v for name, v in self.visited.items()}

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        for name, occupancy in occupancies(strategy).items():
            now = occupancy.visited(self.threshold)
            self.visited[name] = now | self.visited.get(name, now)
        if self._record is not None:
            for name, share in self.free_share.items():
                shown = shown_name(strategy.model, name)
                self._record(f"locality_free_share_{shown}", share)


@dataclass(kw_only=True, eq=False)
class FrozenBasePlugin(FreezingPlugin):
    """Freeze KAN layers' base branches and factors per edge after the first experience.

    They are no local path: a step of theirs moves outputs everywhere. Heads that come
    later keep theirs for their own first experience.
    """

    state = ("names",)
    needs = Needs(
        spline_bases="it freezes what stands beside splines; use model=kan instead"
    )

    names: set[str] = field(default_factory=set, init=False)
    """Names of the parameters that stay."""

    def frozen(self, strategy: Any) -> dict[nn.Parameter, Tensor]:
        paths = _global_paths(strategy.model).items()
        return {
            p: p.new_ones((), dtype=torch.bool)
            for name, p in paths
            if name in self.names
        }

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        paths = _global_paths(strategy.model).items()
        self.names |= {name for name, path in paths if path.grad is not None}


def _global_paths(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of every KAN layer that all samples use."""
    return {
        f"{name}.{kind}": getattr(layer, kind)
        for name, layer in kan_layers(model).items()
        for kind in ("base_weight", "edge_scale")
        if getattr(layer, kind) is not None
    }
