"""Strategies without gradients: the last layer in closed form, on frozen features."""

from __future__ import annotations

from typing import Any, Literal

import torch
from avalanche.training.supervised import Naive
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn

from kancl.models import KANLinear
from kancl.models.frozen_features import OneLayer, RandomPatches
from kancl.models.heads import replace_network
from kancl.models.inspect import last_layers
from kancl.models.layer_features import constant_weights
from kancl.models.readouts import (
    FeatureSums,
    nearest_mean_weights,
    ridge_weights,
    spline_bayes_weights,
)
from kancl.plugins.hyperparameters import at_least, positive
from kancl.plugins.outputs.readout import ClosedFormReadoutPlugin, Solve
from kancl.strategies.setup import TrainingSetup


class ForwardOnly(Naive):
    """Avalanche's loop with all its hooks, less gradients and steps."""

    def forward(self) -> Tensor:
        with torch.no_grad():
            outputs: Tensor = super().forward()
        return outputs

    def backward(self) -> None:
        pass

    def optimizer_step(self) -> None:
        pass


def ridge_readout(
    setup: TrainingSetup,
    *,
    ridge: float = 1e-4,
    features: Literal["patches", "inputs", "network"] = "patches",
    n_features: int = 2000,
) -> SupervisedTemplate:
    """Solve the last layer by ridge regression on all data so far; the rest is frozen.

    Sums of squares and products are all that is kept, so that the order of experiences
    changes rounding only: nothing is forgotten. The optimizer is not used.

    Args:
        ridge: strength, of the features' mean sum of squares.
        features: random patches in place of the network (splines of them for a KAN, ReLU
            for an MLP), the raw inputs (additive splines, or linear), or those of the
            network as it was initialised.
        n_features: random patches.
    Source: McDonnell et al. 2023, arXiv:2307.02251 (RanPAC); random patches as in
        ``RandomPatches``.
    """
    positive("ridge", ridge)

    def solve(layer: nn.Module, sums: FeatureSums) -> Tensor:
        return ridge_weights(sums, ridge)

    return _readout(setup, features, n_features, solve, gram=True)


def nearest_mean(
    setup: TrainingSetup,
    *,
    features: Literal["patches", "inputs", "network"] = "inputs",
    n_features: int = 2000,
) -> SupervisedTemplate:
    """Choose the class with the nearest mean of features: the cheapest baseline.

    Args:
        features: as in ``ridge_readout``.
        n_features: random patches.
    Source: Mensink et al. 2013, IEEE TPAMI 35, 2624-2637.
    """

    def solve(layer: nn.Module, sums: FeatureSums) -> Tensor:
        return nearest_mean_weights(sums, constant_weights(layer))

    return _readout(setup, features, n_features, solve, gram=False)


def spline_bayes(
    setup: TrainingSetup,
    *,
    smoothing: float = 1.0,
    features: Literal["inputs", "network"] = "inputs",
) -> SupervisedTemplate:
    """Naive Bayes over the inputs, its densities the classes' occupancies of the bases.

    Args:
        smoothing: added to every soft count.
        features: the raw inputs, or those of the network as it was initialised (whose
            last layer must have no base branch).
    Source: categorical naive Bayes with a spline's bases as soft bins; see
        ``spline_bayes_weights``.
    """
    positive("smoothing", smoothing)
    _refuse_without_bases(setup.model, features)

    def solve(layer: Any, sums: FeatureSums) -> Tensor:
        constant = constant_weights(layer)
        return spline_bayes_weights(sums, layer.in_features, smoothing, constant)

    return _readout(setup, features, 0, solve, gram=False)


def _readout(
    setup: TrainingSetup, features: str, n_features: int, solve: Solve, *, gram: bool
) -> SupervisedTemplate:
    model: Any = setup.model
    n_outputs = last_layers(model)[None].n_classes if None in last_layers(model) else 1
    if features == "patches":
        at_least("n_features", n_features)
        generator = torch.Generator().manual_seed(setup.seed)
        kind: Literal["spline", "relu"] = "spline" if _has_splines(model) else "relu"
        n_in = int(model.network.in_features)
        patches = RandomPatches(n_in, n_outputs, n_features, kind, generator)
        replace_network(model, patches.to(setup.device))
    elif features == "inputs":
        first = _first_layer(model)
        replace_network(model, OneLayer(first, n_outputs).to(setup.device))
    # It steps nowhere, but is known to hold the model's parameters.
    setup.optimizer.param_groups[0]["params"] = list(model.parameters())
    constant_weights(model.network.make_head(1))  # refuses a last layer without
    plugin = ClosedFormReadoutPlugin(solve, gram=gram)
    return setup.build(ForwardOnly, plugins=[plugin])


def _has_splines(model: nn.Module) -> bool:
    return any(isinstance(module, KANLinear) for module in model.modules())


def _first_layer(model: Any) -> nn.Module:
    layers: Any = getattr(model.network, "layers", [])
    if len(layers) == 0:
        raise ValueError(
            "features=inputs takes the kind and grid of the network's first layer, "
            "and it has none: set strategy.features=network instead"
        )
    first: nn.Module = layers[0]
    return first


def _refuse_without_bases(model: Any, features: str) -> None:
    head = model.network.make_head(1)
    if not isinstance(head, KANLinear):
        raise ValueError(
            f"strategy=spline_bayes needs bases, which the model's last layer ({head}) "
            "has not; use model=kan or strategy=nearest_mean instead"
        )
    if features == "network" and head.base_weight is not None:
        raise ValueError(
            "strategy=spline_bayes with features=network needs a last layer of splines "
            "alone; set model.base=false instead"
        )
