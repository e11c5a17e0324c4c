"""Last layers in closed form, from sums over everything seen so far: no gradients."""

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from math import isqrt
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from kancl.config.values import Count, Positive
from kancl.data.checks import check_room
from kancl.models import KANLinear, readouts
from kancl.models.frozen_features import (
    LastLayerOnly,
    OneLayer,
    PatchFeature,
    RandomPatches,
)
from kancl.models.heads import UNSEEN, replace_network
from kancl.models.inspect import kan_layers, last_layers, watching
from kancl.models.layer_features import constant_weights, layer_features, set_weights
from kancl.models.random_filters import RandomFilters, numbers_at_once
from kancl.models.readouts import FeatureSums
from kancl.plugins.plugin import Needs, Plugin, Record, Stage, TrainingSetup

Features = Literal["conv", "patches", "inputs", "network"]
RIDGE = 1e-4
HOLD_OUT = 10
"""Every such sample of a stream chooses a ridge's strength."""


@dataclass(kw_only=True, eq=False)
class ReadoutPlugin(Plugin):
    """Add up the last layer's features in the first epoch, and solve it after each.

    What comes before the last layer stays as it is. A head per task label has its own
    sums; a growing head is solved as one layer. Classes not seen give ``UNSEEN``.
    """

    stage = Stage.OUTPUTS
    state: ClassVar[tuple[str, ...]] = ("sums",)
    transient: ClassVar[tuple[str, ...]] = ("_inputs", "_hooks")
    needs = Needs(
        class_labels="it solves for classes; use strategy=naive or strategy=joint instead",
        fixed_grids="sums over old bases say nothing of new ones; leave grow_grids out "
        "instead",
    )
    keeps_gram: ClassVar[bool] = False
    """Whether it solves by the features' gram matrix."""

    features: Any
    n_features: int = field(default=0, init=False)
    sums: dict[int | None, FeatureSums] = field(default_factory=dict, init=False)
    """By task label; None where one layer serves all."""
    _inputs: dict[int | None, Tensor] = field(default_factory=dict, init=False)
    _hooks: ExitStack = field(default_factory=ExitStack, init=False)

    @property
    def holds_out(self) -> bool:
        """Whether it also keeps the sums over a part of the samples."""
        return False

    @abstractmethod
    def solve(self, layer: Any, label: int | None) -> Tensor:
        """Return the last layer's weights, ``(n_features, n_classes)``."""

    def prepare(self, setup: TrainingSetup) -> None:
        model: Any = setup.model
        lasts = last_layers(model)
        n_outputs = lasts[None].n_classes if None in lasts else 1
        if self.features == "conv" and setup.pixels_permuted:
            raise ValueError(
                "features=conv sees which pixels are neighbours, and here they are "
                "permuted: set strategy.features=inputs or strategy.features=network "
                "instead"
            )
        drawn = self.features in ("conv", "patches")
        if drawn:
            replace_network(model, self._random_network(setup, n_outputs))
        elif self.features == "inputs":
            layers = getattr(model.network, "layers", [])
            if len(layers) == 0:
                raise ValueError(
                    "features=inputs takes the kind and grid of the network's first "
                    "layer, and it has none: set strategy.features=network instead"
                )
            replace_network(model, OneLayer(layers[0], n_outputs))
        model.to(setup.device)
        # It steps nowhere, but is known to hold the model's parameters.
        setup.optimizer.param_groups[0]["params"] = list(model.parameters())
        n = len(constant_weights(model.network.make_head(1)))  # or refuses the layer
        if self.keeps_gram:
            sums = len(lasts) * (1 + self.holds_out)
            each = 8 * (sums + 4)  # bytes, with those of a solution
            smaller = "take a smaller model, or strategy=nearest_mean instead"
            check_room(
                f"the sum over products of {n:,} features",
                each * n * n,
                lambda free: _fewer(isqrt(free // each)) if drawn else smaller,
                setup.device,
            )

    def _random_network(self, setup: TrainingSetup, n_outputs: int) -> LastLayerOnly:
        """Raises: ValueError for other inputs than it knows, or for too many features."""
        model: Any = setup.model
        _check_images(self.features, setup.image_shape)
        in_features, conv = int(model.network.in_features), self.features == "conv"
        kind: PatchFeature = "spline" if kan_layers(model) else "relu"
        images = max(setup.batch_size, setup.eval_batch_size)
        # its weights and moments, and what a batch gives
        each = 8 * n_outputs + 4 * images + 4 * in_features * (not conv)
        if conv:
            each += 4 * images * numbers_at_once(in_features, kind)
        check_room(
            f"a network of {self.n_features:,} features",
            each * self.n_features,
            lambda free: _fewer(free // each),
            setup.device,
        )
        return (RandomFilters if conv else RandomPatches)(
            in_features,
            n_outputs,
            self.n_features,
            kind,
            torch.Generator().manual_seed(setup.seed),
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in {"sums", "held_out"} & {*self.state}:
            sums = {k: FeatureSums.from_state(s) for k, s in state[name].items()}
            setattr(self, name, sums)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        lasts = last_layers(strategy.model).items()
        layers = ((label, last.layers[0]) for label, last in lasts)
        seen = watching(layers, lambda k, _, x: self._inputs.update({k: x}))
        self._hooks.enter_context(seen)

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        self._inputs.clear()  # of an evaluation in between

    @torch.no_grad()
    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        if strategy.clock.train_exp_epochs > 0:
            return
        groups = last_layers(strategy.model)
        for label, x in self._inputs.items():
            last, y = groups[label], strategy.mb_y
            if len(x) < len(y):  # other heads have the rest
                y = y[strategy.mb_task_id == label]
            features = layer_features(last.layers[0], x)
            self.add(self.sums, label, features, y, last.n_classes)

    def add(self, sums: Any, label: Any, x: Tensor, y: Tensor, n_classes: int) -> None:
        """Add features ``(n, n_features)`` and classes ``(n,)`` to the sums of a label."""
        if label not in sums:
            sizes = x.shape[1], n_classes
            sums[label] = FeatureSums(*sizes, gram=self.keeps_gram, device=x.device)
        sums[label].add(x, y)

    @torch.no_grad()
    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Not only after the experience: whoever measures there sees the solution."""
        for label, last in last_layers(strategy.model).items():
            if label in self.sums:
                weights = self.solve(last.layers[0], label)
                unseen = UNSEEN * constant_weights(last.layers[0]).to(weights)
                seen = self.sums[label].n_samples > 0
                weights = torch.where(seen, weights, unseen.unsqueeze(1))
                for layer, classes in zip(last.layers, last.classes):
                    set_weights(layer, weights[:, classes])

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self._hooks.close()


def _fewer(most: int) -> str:
    return f"set strategy.n_features={most} or less instead"


def _check_images(features: str, shape: tuple[int, ...] | None) -> None:
    """Raises: ValueError for inputs that are no square images of one channel."""
    if shape is None:
        return
    square = shape[-1:] * 2
    if not square or shape not in (square, (1, *square)):
        raise ValueError(
            f"features={features} takes square images of one channel, and an input here "
            f"has the shape {'x'.join(map(str, shape))}: give them as (n, side, side), or "
            "set strategy.features=inputs instead"
        )


@dataclass(kw_only=True, eq=False)
class RidgeReadoutPlugin(ReadoutPlugin):
    """Solve the last layer by ridge regression on all data so far; the rest is frozen.

    Sums of squares and products are all that is kept: the order of experiences changes
    rounding only (and, with ridge=null, what is held out); nothing is forgotten.

    Args:
        ridge: strength, relative to the features' mean sum of squares. null: after each
            experience, the one of 1e-6, 1e-5, ... 0.1 that, solved without every tenth
            sample, has the least squared error on those (``ridge`` in metrics.csv); the
            weights are then solved with all samples.
        features: random patches in place of the network (splines of them for a KAN, ReLU
            for an MLP), conv (random filters, pooled), the raw inputs (additive splines,
            or linear), or those of the network as it was initialised.
        n_features: how many features random patches or filters give.
    Source: McDonnell et al. 2023, arXiv:2307.02251 (RanPAC); random patches as in
        ``RandomPatches``, filters as in ``RandomFilters``.
    """

    state = ("sums", "held_out", "n_seen")
    transient = ("_inputs", "_hooks", "_record")
    keeps_gram = True

    ridge: Positive | None = RIDGE
    features: Features = "patches"
    n_features: Count = 2000
    held_out: dict[int | None, FeatureSums] = field(default_factory=dict, init=False)
    """Those of every tenth sample, which ``sums`` has too."""
    n_seen: dict[int | None, int] = field(default_factory=dict, init=False)
    _record: Record | None = field(default=None, init=False)

    @property
    def holds_out(self) -> bool:
        return self.ridge is None

    def prepare(self, setup: TrainingSetup) -> None:
        super().prepare(setup)
        self._record = setup.record

    def add(self, sums: Any, label: Any, x: Tensor, y: Tensor, n_classes: int) -> None:
        super().add(sums, label, x, y, n_classes)
        if self.holds_out and sums is self.sums:
            n = self.n_seen.get(label, 0)
            self.n_seen[label] = n + len(y)
            held = slice((HOLD_OUT - 1 - n) % HOLD_OUT, None, HOLD_OUT)
            self.add(self.held_out, label, x[held], y[held], n_classes)

    def solve(self, layer: Any, label: int | None) -> Tensor:
        sums, ridge = self.sums[label], self.ridge or RIDGE
        if self.holds_out and self.n_seen[label] >= HOLD_OUT:
            ridge = readouts.best_ridge(sums, self.held_out[label])
            assert self._record is not None
            self._record("ridge" if label is None else f"ridge_task_{label}", ridge)
        return readouts.ridge_weights(sums, ridge)


@dataclass(kw_only=True, eq=False)
class NearestMeanPlugin(ReadoutPlugin):
    """Choose the class with the nearest mean of features: the cheapest baseline.

    Args:
        features: conv, patches, inputs or network, as in ``ridge_readout``.
        n_features: how many features random patches or filters give.
    Source: Mensink et al. 2013, IEEE TPAMI 35, 2624-2637.
    """

    features: Features = "inputs"
    n_features: Count = 2000

    def solve(self, layer: Any, label: int | None) -> Tensor:
        constant = constant_weights(layer)
        return readouts.nearest_mean_weights(self.sums[label], constant)


@dataclass(kw_only=True, eq=False)
class SplineBayesPlugin(ReadoutPlugin):
    """Naive Bayes over the inputs, its densities the classes' occupancies of the bases.

    Args:
        smoothing: added to every soft count.
        features: the raw inputs, or those of the network as it was initialised (whose
            last layer must have no base branch).
    Source: categorical naive Bayes with a spline's bases as soft bins; see
        ``spline_bayes_weights``.
    """

    needs = replace(
        ReadoutPlugin.needs,
        spline_bases="it has no bases to take densities from; use model=kan, or "
        "strategy=nearest_mean or strategy=ridge_readout instead",
    )

    smoothing: Positive = 1.0
    features: Literal["inputs", "network"] = "inputs"

    def prepare(self, setup: TrainingSetup) -> None:
        network: Any = setup.model.network
        head = network.make_head(1)
        if not isinstance(head, KANLinear):
            raise ValueError(
                f"it needs bases, which the model's last layer ({head}) has not; use "
                "model=kan or strategy=nearest_mean instead"
            )
        if self.features == "network" and head.base_weight is not None:
            raise ValueError(
                "features=network needs a last layer of splines alone; set "
                "model.base=false instead"
            )
        super().prepare(setup)

    def solve(self, layer: Any, label: int | None) -> Tensor:
        sums, constant = self.sums[label], constant_weights(layer)
        inputs = layer.in_features
        return readouts.spline_bayes_weights(sums, inputs, self.smoothing, constant)
