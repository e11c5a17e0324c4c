"""Strategies that use where a model's features are active, and the labels trick.

Those that shrink steps work with any optimizer; the published formula, and the figures
in the documents, are those of ``optimizer=sgd`` without momentum.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from avalanche.training.templates import SupervisedTemplate
from torch import nn

from kancl.models.layer_features import (
    has_features,
    input_blocks,
    inputs_group,
    n_layer_features,
)
from kancl.plugins.hyperparameters import at_least, non_negative
from kancl.plugins.outputs.labels_trick import PresentClassesLoss
from kancl.plugins.penalties.ewc import EWCPlugin
from kancl.plugins.steps.preconditioners import (
    BlockGram,
    DiagonalOccupancy,
    FullGram,
    LowRankGram,
    Preconditioner,
)
from kancl.plugins.steps.step_preconditioner import StepPreconditionerPlugin
from kancl.strategies.setup import TrainingSetup

MOST_FEATURES = 10_000
"""Of a layer for a full gram matrix: beyond, a matrix takes over 400 MB."""


def labels_trick(setup: TrainingSetup) -> SupervisedTemplate:
    """Take the loss over the classes in the batch alone: old outputs aren't pushed down.

    Where every batch has all classes (domain- and task-incremental) it is naive.

    Source: Zeno et al. 2018, arXiv:1803.10123, section 5.
    """
    return _with_labels_trick(setup).build()


def occupancy(
    setup: TrainingSetup,
    *,
    beta: float = 1.0,
    feature_samples: int | None = 10_000,
) -> SupervisedTemplate:
    """Slow every coefficient down by how much past experiences have used it.

    ``step / (1 + beta o)``, ``o += m / mean(m)`` after each experience, ``m`` the mean
    size of a coefficient's basis, or of an input of a linear layer.

    Args:
        beta: strength.
        feature_samples: images of each experience to take ``m`` over; null takes all.
    Source: the drift bound ``sum o |change|`` of ``kancl.metrics.locality``.
    """
    non_negative("beta", beta, "0 trains as naive does")
    _largest_layer(setup.model)

    def make(layer: nn.Module, first: bool) -> Preconditioner:
        return DiagonalOccupancy(beta)

    return setup.build(
        plugins=[StepPreconditionerPlugin(make, feature_samples, setup.seed)]
    )


def gram(
    setup: TrainingSetup,
    *,
    beta_input: float = 10.0,
    beta_hidden: float = 1.0,
    structure: Literal["full", "blocks", "low_rank"] = "full",
    rank: int = 128,
    feature_samples: int | None = 10_000,
) -> SupervisedTemplate:
    """Shrink steps that would move the outputs of past features (Gram occupancy).

    ``(I + beta C)^-1 step``, ``C += mean phi phi^T`` after each experience, of every
    layer's features: bases and base activations, or a linear layer's inputs.

    Args:
        beta_input: strength for the layer on the inputs.
        beta_hidden: strength for all others.
        structure: of C: full; or, for layers with many bases, blocks (one for each
            input's features; for a linear layer that is the diagonal) or low_rank.
        rank: how many directions low_rank keeps; memory and time grow with it.
        feature_samples: images of each experience to take C over; null takes all.
    Source: a soft form of Zeng et al. 2019, arXiv:1810.01256 (OWM).
    """
    plugin = _gram(setup, beta_input, beta_hidden, structure, rank, feature_samples)
    return setup.build(plugins=[plugin])


def labels_trick_gram(
    setup: TrainingSetup,
    *,
    beta_input: float = 1.0,
    beta_hidden: float = 1.0,
    structure: Literal["full", "blocks", "low_rank"] = "full",
    rank: int = 128,
    feature_samples: int | None = 10_000,
) -> SupervisedTemplate:
    """The labels trick and Gram occupancy together; options as in ``gram``.

    The default for the inputs is smaller than there: experiences with classes of their
    own need to learn more of what they share.

    Source: those of ``labels_trick`` and ``gram``.
    """
    plugin = _gram(setup, beta_input, beta_hidden, structure, rank, feature_samples)
    return _with_labels_trick(setup).build(plugins=[plugin])


def gram_ewc(
    setup: TrainingSetup,
    *,
    ewc_lambda: float = 0.3,
    fisher_labels: Literal["expected", "sampled", "true", "predicted"] = "expected",
    fisher_samples: int | None = 5_000,
    beta_input: float = 10.0,
    beta_hidden: float = 1.0,
    structure: Literal["full", "blocks", "low_rank"] = "full",
    rank: int = 128,
    feature_samples: int | None = 10_000,
) -> SupervisedTemplate:
    """Gram occupancy, and EWC's quadratic as a pull back after every step.

    ``W <- a W + (1 - a) W*``, ``a = 1 / (1 + lr ewc_lambda F)``: EWC's step taken
    implicitly, which can't diverge. ``beta_input=0 beta_hidden=0`` leaves that alone.

    Args:
        ewc_lambda: strength of the pull.
        fisher_labels: as in ``ewc``.
        fisher_samples: as in ``ewc``.
        beta_input: as in ``gram``.
        beta_hidden: as in ``gram``.
        structure: as in ``gram``.
        rank: as in ``gram``.
        feature_samples: as in ``gram``.
    Source: those of ``gram`` and ``ewc``.
    """
    shrink = _gram(setup, beta_input, beta_hidden, structure, rank, feature_samples)
    pull = EWCPlugin(
        ewc_lambda,
        fisher_labels=fisher_labels,
        fisher_samples=fisher_samples,
        implicit=True,
        seed=setup.seed,
    )
    return setup.build(plugins=[shrink, pull])


def _with_labels_trick(setup: TrainingSetup) -> TrainingSetup:
    return replace(setup, criterion=PresentClassesLoss(setup.criterion))


def _gram(
    setup: TrainingSetup,
    beta_input: float,
    beta_hidden: float,
    structure: str,
    rank: int,
    feature_samples: int | None,
) -> StepPreconditionerPlugin:
    non_negative("beta_input", beta_input, "0 leaves the first layer's steps alone")
    non_negative("beta_hidden", beta_hidden, "0 leaves the other layers' steps alone")
    if structure not in ("full", "blocks", "low_rank"):
        raise ValueError(
            f"structure must be full, blocks or low_rank, got {structure!r}"
        )
    at_least("rank", rank)
    n_features = _largest_layer(setup.model)
    if structure == "full" and n_features > MOST_FEATURES:
        raise ValueError(
            f"a layer has {n_features} features, too many for a full gram matrix "
            f"(at most {MOST_FEATURES}): set strategy.structure=blocks or low_rank "
            "instead"
        )

    def make(layer: nn.Module, first: bool) -> Preconditioner:
        beta = beta_input if first else beta_hidden
        if structure == "full":
            return FullGram(beta, inputs_group(layer))
        if structure == "blocks":
            return BlockGram(beta, input_blocks(layer))
        return LowRankGram(beta, rank)

    return StepPreconditionerPlugin(make, feature_samples, setup.seed)


def _largest_layer(model: nn.Module) -> int:
    """Features of the layer with most of them.

    Raises: ValueError if a layer has none that are common to its outputs.
    """
    return max(map(n_layer_features, filter(has_features, model.modules())), default=0)
