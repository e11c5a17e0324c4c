"""Orthogonal weight modification: no step along features that were trained on."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from kancl.config.values import Count, Positive, PositiveShare
from kancl.models.inspect import watching
from kancl.models.layer_features import (
    get_weights,
    gradient,
    inputs_group,
    layer_features,
    n_features,
    set_weights,
)
from kancl.plugins.plugin import Diverged, Needs, TrainingSetup
from kancl.plugins.steps.frozen import FreezingPlugin, sums_gradients
from kancl.plugins.steps.preconditioners import (
    Preconditioner,
    differences,
    grouped,
    times,
)
from kancl.plugins.steps.step_preconditioner import (
    StepPreconditionerPlugin,
    key_of,
    layers_with_features,
)


class Projector(Preconditioner):
    """``P`` of orthogonal weight modification, which starts as the identity.

    P itself is kept, not I - P: most of its entries become small, and float32 tells
    small numbers apart better than numbers near 1.

    Args:
        alpha: at the start of an experience; the smaller, the less may move.
        decay: alpha has this factor at the end of an experience.
        by_sample: P takes every sample of a batch, not their mean.
        group: so many features in a row add up to 0: an anchored input's bases.
    """

    def __init__(
        self, alpha: float, decay: float, by_sample: bool, group: int | None
    ) -> None:
        self.alpha, self.decay, self.by_sample = alpha, decay, by_sample
        self.share = 0.0
        """How much of the experience is done."""
        self.axes: Any = None if group is None else differences(group)
        """Groups without their common part, ``(group - 1, group)``."""
        self.matrix: Any = None
        """P, ``(n_features, n_features)``, symmetric to the bit."""

    def observe(self, features: Tensor) -> None:
        """``P <- P - P F^T (alpha I + F P F^T)^-1 F P``, F the mean or all features."""
        rows = features if self.by_sample else features.mean(0, keepdim=True)
        if self.axes is not None:
            groups = rows.unflatten(1, (-1, self.axes.shape[1]))
            if groups.sum(2).abs().max() > 1e-5:  # a value off the grid
                self._widen()
            else:
                self.axes = self.axes.to(rows)
                rows = (groups @ self.axes.T).flatten(1)
        if self.matrix is None:
            self.matrix = torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
        projected = rows @ self.matrix  # (n, n_features), F P
        inner = (projected @ rows.T).double()
        inner.diagonal().add_(self.alpha * self.decay**self.share)
        factor, failed = torch.linalg.cholesky_ex(inner)
        if failed:
            raise Diverged(
                "the features have become so large that OWM's projector has lost its "
                "precision: lower optimizer.lr, scale inputs that are far above 1 "
                "(scenario.normalize=unit), or raise strategy.alpha_input and "
                "strategy.alpha_hidden"
            )
        new = torch.linalg.solve_triangular(factor.to(rows), projected, upper=False)
        if self.by_sample:
            taken = new.T @ new
            self.matrix -= (taken + taken.T) / 2
        else:
            self.matrix.addr_(new[0], new[0], alpha=-1)

    def shrink(self, step: Tensor) -> Tensor:
        if self.axes is None:
            return self._projected(step)
        differing = grouped(step, self.axes)
        change = self._projected(differing) - differing
        return step + grouped(change, self.axes.T)

    def _projected(self, step: Tensor) -> Tensor:
        few = 8 * step.shape[1] < len(step)
        return times(step, self.matrix) if few else self.matrix @ step

    def _widen(self) -> None:
        """P of all features, where some group no longer adds up to 0."""
        if self.matrix is not None:
            axes = self.axes.to(self.matrix)
            self.matrix.diagonal().sub_(1)
            self.matrix = grouped(grouped(self.matrix, axes.T).T, axes.T)
            self.matrix.diagonal().add_(1)
        self.axes = None


class BlockProjector(Preconditioner):
    """A ``Projector`` for each block of features in a row; between blocks P is 0.

    Where every block's own part of the outputs is kept, so is their sum.

    Args:
        parts: one for each block.
        size: features of a block; the last may have fewer.
    """

    def __init__(self, parts: list[Projector], size: int) -> None:
        self.parts, self.size, self.share = parts, size, 0.0

    def observe(self, features: Tensor) -> None:
        for part, block in zip(self.parts, features.split(self.size, 1)):
            part.share = self.share
            part.observe(block)

    def shrink(self, step: Tensor) -> Tensor:
        blocks = zip(self.parts, step.split(self.size))
        return torch.cat([part.shrink(block) for part, block in blocks])

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.parts = [Projector.from_state(part) for part in state["parts"]]


@dataclass(kw_only=True, eq=False)
class OWMPlugin(StepPreconditionerPlugin):
    """Take each step only in directions that past features do not see (OWM).

    At every batch, with r the mean of a layer's features, ``k = P r`` and
    ``P <- P - k k^T / (alpha + r k)``; then ``gradient <- P gradient``, before momentum
    joins it. P begins as the identity and is never reset. Published with all classes in
    the loss from the start, SGD with momentum 0.9, batches of 40. Other optimizers,
    weight decay and what freezes parameters (``model.lazy`` too) change the direction of
    a gradient: there, ``step <- P step``. The optimizer is made anew for each experience.

    What was never trained is not protected: a growing head forgets much more than one
    with all classes from the start, as a new class's outputs begin at random.

    Args:
        alpha_input: alpha of the layer on the inputs when an experience begins; the
            smaller, the less may move.
        alpha_input_decay: alpha_input has this factor when the experience ends, and in
            between this factor to the power of the share that is done.
        alpha_hidden: alpha of the layers behind it.
        alpha_hidden_decay: of alpha_hidden, as alpha_input_decay of alpha_input.
        alpha_output: alpha of the last layer; null: alpha_hidden.
        alpha_output_decay: of alpha_output; null: alpha_hidden_decay.
        by_sample: P takes every sample of a batch (recursive least squares), not their
            mean r, which ties the keys to small batches.
        block_size: P has blocks of so many features in a row and is 0 elsewhere, for
            layers too wide for one matrix; null: one block of all.
    Source: Zeng et al. 2019, arXiv:1810.01256, eq. 1-5 of the methods.
    """

    transient = ("_before", "_watching", "_inputs")
    needs = Needs(
        fixed_grids="a projector of old bases says nothing of finer or further ones; "
        "leave grow_grids out, with a grid that is wide enough from the start "
        "(model.hidden_range), or take strategy=occupancy instead"
    )

    alpha_input: Positive = 0.9
    alpha_input_decay: PositiveShare = 0.001
    alpha_hidden: Positive = 0.6
    alpha_hidden_decay: PositiveShare = 1.0
    alpha_output: Positive | None = None
    alpha_output_decay: PositiveShare | None = None
    by_sample: bool = False
    block_size: Count | None = None
    _watching: ExitStack = field(default_factory=ExitStack, init=False)
    _inputs: dict[str, tuple[nn.Module, list[Tensor]]] = field(
        default_factory=dict, init=False
    )

    @property
    def kind(self) -> type[Preconditioner]:
        return Projector if self.block_size is None else BlockProjector

    def make(
        self, layer: nn.Module, first: bool, last: bool = False
    ) -> Projector | BlockProjector:
        alpha, decay = self.alpha_hidden, self.alpha_hidden_decay
        if first:
            alpha, decay = self.alpha_input, self.alpha_input_decay
        elif last:
            own = self.alpha_output, self.alpha_output_decay
            alpha = alpha if own[0] is None else own[0]
            decay = decay if own[1] is None else own[1]
        one = partial(Projector, alpha, decay, self.by_sample, inputs_group(layer))
        if self.block_size is None:
            return one()
        size = self._size(layer)
        n_blocks = ceil(n_features(layer) / size)
        return BlockProjector([one() for _ in range(n_blocks)], size)

    def _size(self, layer: nn.Module) -> int:
        """Features of a block; an input's bases stay in one."""
        n, group = n_features(layer), inputs_group(layer) or 1
        return min(n, max((self.block_size or n) // group, 1) * group)

    def prepare(self, setup: TrainingSetup) -> None:
        super().prepare(setup)
        setup.reset_optimizer = True

    def n_bytes(self, layer: nn.Module) -> int:
        return 4 * n_features(layer) * self._size(layer)

    @property
    def n_copies(self) -> int:
        return 3 if self.by_sample else 1

    @property
    def instead(self) -> str:
        if self.block_size is None:
            return "set strategy.block_size to 1000 or less instead, or a smaller model"
        return "set a smaller strategy.block_size instead, or a smaller model"

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        self._inputs.clear()
        layers = dict(layers_with_features(strategy.model))

        def see(name: str, layer: nn.Module, x: Tensor) -> None:
            key = key_of(strategy.model, name)
            kept = self._inputs.setdefault(key, (layer, []))
            if kept[0] is layer:
                kept[1].append(x)

        self._watching.enter_context(watching(layers.items(), see))

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        self._watching.close()

    @torch.no_grad()
    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        n = strategy.train_epochs * len(strategy.dataloader)
        last = next(reversed(self._inputs), "")  # in the order of the forward pass
        for key, (layer, inputs) in self._inputs.items():
            known: Any = self.preconditioners
            if key not in known:
                known[key] = self.make(layer, first=not known, last=key == last)
            known[key].share = strategy.clock.train_exp_iterations / n
            known[key].observe(layer_features(layer, torch.cat(inputs)))
        self._inputs.clear()
        freezes = any(isinstance(plugin, FreezingPlugin) for plugin in strategy.plugins)
        if freezes or not sums_gradients(strategy.optimizer):
            super().before_update(strategy)
            return
        for projector, layer in self.known(strategy.model):
            left = projector.shrink(get_weights(layer, gradient))
            set_weights(layer, left, gradient)

    @torch.no_grad()
    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        for known, layer, before in self._before:
            now = get_weights(layer)
            step = now - before
            # where nothing is taken, the weights stay as they are, to the bit
            set_weights(layer, now + (known.shrink(step) - step))
        self._before.clear()
