"""Shrink every layer's steps where past experiences' features would feel them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from avalanche.models import avalanche_forward
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor, nn

from kancl.data.rows import as_tensors
from kancl.models import KANLinear
from kancl.models.heads import GrowingHead
from kancl.models.layer_features import has_features, layer_features, weight_rows
from kancl.plugins.hyperparameters import at_least
from kancl.plugins.steps.preconditioners import DiagonalOccupancy, Preconditioner
from kancl.splines import Insertion

ROWS = 512  # samples per forward pass

Make = Callable[[nn.Module, bool], Preconditioner]
"""Of a layer, and whether it is the one on the inputs."""

SHARED = (
    "the heads of a growing head share what is known of their features, so their grids "
    "can't grow one by one: take scenario.head=single, or locality.grow_off_grid=null and "
    "locality.refine_below=0"
)


class StepPreconditionerPlugin(SupervisedPlugin):
    """Replace each step of a layer's weights by what a preconditioner leaves of it.

    ``W <- W_before + P (W_after - W_before)`` after every step of the optimizer,
    whichever it is; for SGD, ``W <- W - lr P grad``. P comes from the features that
    the layer had on past experiences' samples, gathered after each experience. Linear
    and KAN layers have P; other parameters (norms) move as they do.

    The layers of a growing head share P: they have the same features. A head per task
    has its own, of its task's samples.

    Args:
        make: gives a fresh preconditioner for a layer.
        n_samples: of each experience, drawn at random; None takes all.
        seed: for that draw, apart from training's random stream.
    Raises: ValueError if ``n_samples`` is below 1; in training, for a KAN layer with a
        factor per edge.
    """

    changes_steps = True

    def __init__(self, make: Make, n_samples: int | None = None, seed: int = 0) -> None:
        super().__init__()
        if n_samples is not None:
            at_least("feature_samples", n_samples)
        self.make, self.n_samples = make, n_samples
        self.preconditioners: dict[str, Preconditioner] = {}
        """By the layer's name."""
        self._before: dict[str, Tensor] = {}
        self._generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        if self.preconditioners:
            self._before = {
                name: torch.cat(list(weight_rows(layer, lambda p: p.data).values()))
                for name, layer in self._known(strategy.model)
            }

    @torch.no_grad()
    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        if not self.preconditioners:
            return
        for name, layer in self._known(strategy.model):
            views = list(weight_rows(layer, lambda p: p.data).values())
            before = self._before[name]
            step = torch.cat(views) - before
            now = before + self.preconditioners[_key(strategy.model, name)].shrink(step)
            for view, part in zip(views, now.split([len(view) for view in views])):
                view.copy_(part)

    @torch.no_grad()
    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        dataset = strategy.experience.dataset
        if self.n_samples is not None and self.n_samples < len(dataset):
            order = torch.randperm(len(dataset), generator=self._generator)
            dataset = dataset.subset(order[: self.n_samples].tolist())
        x, _, task_labels = as_tensors(dataset)
        observed: set[str] = set()
        with self._observing(strategy.model, observed):
            for task in task_labels.unique().tolist():
                rows = (task_labels == task).nonzero().flatten().to(x.device)
                for chunk in rows.split(ROWS):
                    avalanche_forward(
                        strategy.model, x[chunk].to(strategy.device), task
                    )
        for key in observed:
            self.preconditioners[key].close()

    def carry(
        self, model: nn.Module, name: str, layer: KANLinear, insertion: Insertion
    ) -> None:
        """Take along what is known of a layer whose grid has changed.

        Raises: ValueError as ``check_growth`` does.
        """
        key = _key(model, name)
        known = self.preconditioners.get(key)
        if known is None:
            return
        _check_carries(known)
        if key != name:
            raise ValueError(SHARED)
        assert isinstance(known, DiagonalOccupancy)
        known.carry(insertion, layer.in_features)

    def check_growth(self, model: nn.Module) -> None:
        """Raises: ValueError if the model's grids can't grow while steps are shrunk."""
        layers = [layer for _, layer in _layers(model) if isinstance(layer, KANLinear)]
        if layers:
            _check_carries(self.make(layers[0], True))
        if isinstance(model, GrowingHead):
            raise ValueError(SHARED)

    def _known(self, model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        """Layers that have features and a past."""
        for name, layer in _layers(model):
            if _key(model, name) in self.preconditioners:
                yield name, layer

    @contextmanager
    def _observing(self, model: nn.Module, observed: set[str]) -> Iterator[None]:
        """In evaluation mode, layers hand their features to their preconditioners."""

        def observe(key: str) -> Callable[..., None]:
            def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                if key not in self.preconditioners:
                    first = not self.preconditioners
                    self.preconditioners[key] = self.make(layer, first)
                observed.add(key)
                x = inputs[0].flatten(0, -2)
                self.preconditioners[key].observe(layer_features(layer, x))

            return hook

        modes = {module: module.training for module in model.modules()}
        model.eval()
        layers = {_key(model, name): layer for name, layer in _layers(model)}
        handles = [
            layer.register_forward_pre_hook(observe(key))
            for key, layer in layers.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            for module, mode in modes.items():
                module.training = mode


def _check_carries(known: Preconditioner) -> None:
    if not isinstance(known, DiagonalOccupancy):
        raise ValueError(
            "second moments of old bases say nothing of finer or further ones, so grids "
            "can't grow: take locality.grow_off_grid=null and locality.refine_below=0, "
            "with a grid that is wide enough from the start (model.hidden_range), or "
            "strategy=occupancy"
        )


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Trainable layers with features, by name."""
    for name, module in model.named_modules():
        if has_features(module) and any(
            p.requires_grad for p in module.parameters(recurse=False)
        ):
            yield name, module


def _key(model: nn.Module, name: str) -> str:
    """Layers of one key have the same features: those of a growing head."""
    shared = isinstance(model, GrowingHead) and name.startswith("heads.")
    return "heads" if shared else name
