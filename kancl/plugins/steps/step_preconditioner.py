"""Shrink every layer's steps where past experiences' features would feel them."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from kancl.config.values import Count, NonNegative
from kancl.data.checks import check_room
from kancl.models import KANLinear
from kancl.models.heads import GrowingHead, MultiHead
from kancl.models.layer_features import (
    get_weights,
    has_features,
    input_blocks,
    inputs_group,
    layer_features,
    n_features,
    set_weights,
)
from kancl.plugins.plugin import Needs, Plugin, Stage, TrainingSetup
from kancl.plugins.samples import drawn, show
from kancl.plugins.steps import preconditioners as kinds
from kancl.plugins.steps.preconditioners import Preconditioner
from kancl.splines import Insertion


@dataclass(kw_only=True, eq=False)
class StepPreconditionerPlugin(Plugin):
    """Replace each step of a layer's weights by what a preconditioner leaves of it.

    ``W <- W_before + P (W_after - W_before)`` after every step of the optimizer,
    whichever it is; for SGD, ``W <- W - lr P grad``, which is the published form. P
    comes from the features that the linear or KAN layer had in the past. The layers of a
    growing head share P: they have the same features. A head per task has its own, of
    its task's samples.

    Raises: ValueError for a KAN layer with a factor per edge.
    """

    stage = Stage.STEP
    state: ClassVar[tuple[str, ...]] = ("preconditioners",)
    transient: ClassVar[tuple[str, ...]] = ("_before",)
    preconditioners: dict[str, Preconditioner] = field(default_factory=dict, init=False)
    """By the layer's name."""
    _before: list[tuple[Preconditioner, nn.Module, Tensor]] = field(
        default_factory=list, init=False
    )

    @property
    @abstractmethod
    def kind(self) -> type[Preconditioner]: ...

    @abstractmethod
    def make(self, layer: nn.Module, first: bool) -> Preconditioner:
        """Return a fresh preconditioner for a layer, the one on the inputs or another."""

    def prepare(self, setup: TrainingSetup) -> None:
        sizes = [self.n_bytes(layer) for layer in _layers_to_come(setup.model)]
        check_room(
            "what is kept of past features",
            sum(sizes) + self.n_copies * max(sizes, default=0),
            lambda _: self.instead,
            setup.device,
        )

    @abstractmethod
    def n_bytes(self, layer: nn.Module) -> int:
        """How many bytes a layer's preconditioner takes."""

    @property
    def n_copies(self) -> int:
        """How many copies of a preconditioner are in memory while it is worked out."""
        return 1

    @property
    def instead(self) -> str:
        """What to do where that is too much."""
        return "take a smaller model instead"

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        keys = state["preconditioners"]
        self.preconditioners = {key: self.kind.__new__(self.kind) for key in keys}
        super().load_state_dict(state)

    def known(self, model: nn.Module) -> Iterator[tuple[Preconditioner, nn.Module]]:
        """The layers that have a preconditioner, and it."""
        for name, layer in layers_with_features(model):
            known = self.preconditioners.get(key_of(model, name))
            if known is not None:
                yield known, layer

    @torch.no_grad()
    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        for known, layer in self.known(strategy.model):
            self._before.append((known, layer, get_weights(layer)))

    @torch.no_grad()
    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        for known, layer, before in self._before:
            step = get_weights(layer) - before
            set_weights(layer, before + known.shrink(step))
        self._before.clear()


@dataclass(kw_only=True, eq=False)
class PastSamplesPlugin(StepPreconditionerPlugin):
    """Take the preconditioners from samples of each experience, after it.

    Args:
        feature_samples: samples of each experience to take P over; null takes all.
    """

    state = ("preconditioners", "_generator")
    feature_samples: Count | None = 10_000
    _generator: torch.Generator = field(default_factory=torch.Generator, init=False)

    def prepare(self, setup: TrainingSetup) -> None:
        super().prepare(setup)
        self._generator.manual_seed(setup.seed)

    @torch.no_grad()
    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        x, _, task_labels = drawn(strategy, self.feature_samples, self._generator)
        model, known, observed = strategy.model, self.preconditioners, set[str]()

        def see(key: str, layer: nn.Module, inputs: Tensor) -> None:
            if key not in known:
                known[key] = self.make(layer, first=not known)
            observed.add(key)
            known[key].observe(layer_features(layer, inputs))

        layers = {
            key_of(model, name): layer for name, layer in layers_with_features(model)
        }
        show(strategy, layers, see, x, task_labels)
        for key in observed:
            known[key].close()


@dataclass(kw_only=True, eq=False)
class OccupancyPlugin(PastSamplesPlugin):
    """Slow every coefficient down by how much past experiences have used it.

    ``step / (1 + beta o)``, ``o += m / mean(m)`` after each experience, ``m`` the mean
    size of a coefficient's basis, or of an input of a linear layer.

    Args:
        beta: strength.
    Source: the drift bound ``sum o |change|`` of ``kancl.metrics.locality``.
    """

    kind = kinds.DiagonalOccupancy

    beta: NonNegative = 1.0

    def prepare(self, setup: TrainingSetup) -> None:
        super().prepare(setup)
        changing = any(getattr(p, "changes_grids", False) for p in setup.plugins)
        if changing and isinstance(setup.model, GrowingHead):
            raise ValueError(
                "the heads of a growing head share what is known of their features, so "
                "their grids can't change one by one: set scenario.head=single, or leave "
                "grow_grids out instead"
            )

    def n_bytes(self, layer: nn.Module) -> int:
        return 4 * n_features(layer)

    def make(self, layer: nn.Module, first: bool) -> Preconditioner:
        return kinds.DiagonalOccupancy(self.beta)

    def on_grid_change(
        self, model: nn.Module, name: str, layer: KANLinear, insertion: Insertion
    ) -> None:
        known = self.preconditioners.get(key_of(model, name))
        if known is not None:
            assert isinstance(known, kinds.DiagonalOccupancy)
            known.carry(insertion, layer.in_features)


@dataclass(kw_only=True, eq=False)
class GramPlugin(PastSamplesPlugin):
    """Shrink steps that would move the outputs of past features (Gram occupancy).

    ``(I + beta C)^-1 step``, ``C += mean phi phi^T`` after each experience, of every
    layer's features: bases and base activations, or a linear layer's inputs.

    Args:
        beta_input: strength for the layer on the inputs.
        beta_hidden: strength for all others.
        structure: of C: full; or, for layers with many bases, blocks (one for each
            input's features; for a linear layer that is the diagonal) or low_rank.
        rank: how many directions low_rank keeps; memory and time grow with it.
    Source: a soft form of Zeng et al. 2019, arXiv:1810.01256 (OWM).
    """

    needs = Needs(
        fixed_grids="second moments of old bases say nothing of finer or further ones; "
        "leave grow_grids out, with a grid that is wide enough from the start "
        "(model.hidden_range), or take strategy=occupancy instead"
    )

    beta_input: NonNegative = 10.0
    beta_hidden: NonNegative = 1.0
    structure: Literal["full", "blocks", "low_rank"] = "full"
    rank: Count = 128

    @property
    def kind(self) -> type[Preconditioner]:
        if self.structure == "full":
            return kinds.FullGram
        return kinds.BlockGram if self.structure == "blocks" else kinds.LowRankGram

    def n_bytes(self, layer: nn.Module) -> int:
        n = n_features(layer)
        if self.structure == "low_rank":
            return 8 * n * min(n, self.rank)
        whole = self.structure == "full"
        n_numbers = (
            n * n if whole else sum(b.numel() * b.shape[1] for b in input_blocks(layer))
        )
        return 12 * n_numbers  # the matrix, its inverse, the sum that joins it

    @property
    def n_copies(self) -> int:
        return 4  # float64

    @property
    def instead(self) -> str:
        if self.structure == "full":
            return "set strategy.structure=blocks or low_rank instead"
        rank = "a smaller strategy.rank, or " * (self.structure == "low_rank")
        return f"take {rank}a smaller model instead"

    def make(self, layer: nn.Module, first: bool) -> Preconditioner:
        beta = self.beta_input if first else self.beta_hidden
        if self.structure == "full":
            return kinds.FullGram(beta, inputs_group(layer))
        if self.structure == "blocks":
            return kinds.BlockGram(beta, input_blocks(layer))
        return kinds.LowRankGram(beta, self.rank)


def layers_with_features(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Trainable layers with features, by name."""
    for name, module in model.named_modules():
        if has_features(module) and any(
            p.requires_grad for p in module.parameters(recurse=False)
        ):
            yield name, module


def _layers_to_come(model: Any) -> list[nn.Module]:
    """One layer for each preconditioner that training will make; of heads by task label
    that are still to come, one.
    """
    layers = {key_of(model, name): m for name, m in layers_with_features(model)}
    if isinstance(model, (GrowingHead, MultiHead)) and not model.heads:
        with torch.random.fork_rng(devices=[]):
            layers["heads"] = model.network.make_head(1)
    return list(layers.values())


def key_of(model: nn.Module, name: str) -> str:
    """Layers of one key have the same features: those of a growing head."""
    shared = isinstance(model, GrowingHead) and name.startswith("heads.")
    return "heads" if shared else name
