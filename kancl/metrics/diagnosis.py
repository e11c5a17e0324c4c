"""What a run forgot, and why, computed from the network's states between experiences.

Whoever follows a run live and whoever reads its states afterwards calls the same
functions. A network that is handed over is in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from avalanche.models import avalanche_forward
from torch import Tensor, nn

from kancl.data.rows import as_tensors
from kancl.metrics.accuracy_matrix import UndefinedMetric
from kancl.metrics.forecast import falls, forecast_quality, kernel_ratio
from kancl.metrics.locality import (
    AT_ONCE,
    VIEWS,
    Occupancy,
    Overlap,
    drift_bound,
    drift_per_knot,
    gradient_cosines,
    leak,
    overlap,
    visited_at_all,
)
from kancl.metrics.rollback import Rollback, rollback, rolled_back
from kancl.metrics.score import Score
from kancl.models.inspect import (
    evaluate_in_chunks,
    layer_bases,
    layer_inputs,
    layer_weights,
    named_layers,
)
from kancl.models.kan_linear import KANLinear

BATCHES = 2
"""Batches of a new experience, each of whose gradients is compared with the old one's."""

SAMPLES = 64
"""Test samples of each experience to look at."""

State = Mapping[str, Tensor]
Falls = Mapping[tuple[int, int], float]


@dataclass(frozen=True)
class Usage:
    """How an experience's samples use one layer.

    Args:
        mean: mean bases with their sign, ``(in_features, n_basis)``.
        off_grid: share of the inputs off the grid; None for a linear layer.
    """

    occupancy: Occupancy
    mean: Tensor
    off_grid: float | None


@dataclass(frozen=True)
class Shared:
    """What two experiences share in a layer, before the new one is trained.

    Args:
        overlap: None if nothing of one of them is on the grid.
        cosines: of their gradients, ``(1, BATCHES)``; None without a loss.
    """

    layer: str
    old: int
    new: int
    overlap: Overlap | None
    cosines: Tensor | None


@dataclass(frozen=True)
class Review:
    """What became of an experience, seen from the last state.

    Args:
        usages: by layer, right after its training.
        drifts: ``drift_per_knot`` since, for layers with as many coefficients as then.
        bounds: ``drift_bound`` of the same layers, mean over outputs.
        rollback: None for the last experience.
    """

    experience: int
    usages: Mapping[str, Usage]
    drifts: Mapping[str, Tensor]
    bounds: Mapping[str, float]
    rollback: Rollback | None


@dataclass(frozen=True)
class Forecast:
    """How well one view of overlap in one layer foretold what trainings took.

    Args:
        overlaps: of all pairs of experiences, of one run or several.
        correlation: rank correlation with what was taken; None if undefined.
    """

    view: str
    layer: str
    overlaps: Sequence[float]
    correlation: float | None


@dataclass(frozen=True)
class Diagnosis:
    """What is known of a run.

    Args:
        title: says which run.
        matrix: of accuracies or errors, ``(N + 1, N)``.
        overlaps: by layer ``(view, old, new)``, NaN where undefined.
        leak: the largest move of a first layer's coefficient that no training sample of
            the experience touched.
        inference: the fields of ``Inference``, at the end; empty where undefined.
    """

    title: str
    score: Score
    image_shape: tuple[int, ...]
    matrix: Tensor
    reviews: Sequence[Review]
    overlaps: Mapping[str, Tensor]
    leak: float
    inference: Mapping[str, float]

    @property
    def falls(self) -> Falls:
        return falls(self.matrix, self.score.rises)


class Samples:
    """Test samples of each experience, and what a network makes of them.

    Args:
        per_experience: spread evenly over each experience's rows; None: all of them.
    """

    def __init__(self, stream: Iterable[Any], per_experience: int | None) -> None:
        with torch.random.fork_rng(devices=[]):  # a stock transform may draw
            self._parts = [as_tensors(e.dataset, per_experience) for e in stream]
        self._first: dict[int, tuple[Tensor | None, Usage]] = {}
        """Of the first layer, whose inputs no training changes, with its grid."""

    def __len__(self) -> int:
        return len(self._parts)

    def to(self, device: torch.device) -> None:
        parts = [(x.to(device), y.to(device), t.to(device)) for x, y, t in self._parts]
        self._parts = parts

    def score(self, model: nn.Module, k: int, score: Score) -> float:
        """How the network does on experience k."""
        x, y, task_labels = self._parts[k]
        chunks = evaluate_in_chunks(model, x, task_labels, chunk=AT_ONCE)
        each = [score.of_samples(outputs, y[rows]) for rows, outputs in chunks]
        return float(score.of_mean(torch.cat(each).double().mean()))

    def look(
        self,
        model: nn.Module,
        k: int,
        n_batches: int = 1,
        loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> tuple[dict[str, Usage], dict[str, Tensor]]:
        """By layer, how experience k uses it, and with a loss a row of gradients of each
        batch.
        """
        x, y, task_labels = self._parts[k]
        layers = named_layers(model)
        trained = {
            name: [p for m in group for p in m.parameters() if p.requires_grad]
            for name, group in layers.items()
        }
        flat = [p for group in trained.values() for p in group]
        rows: dict[str, list[Tensor]] = {name: [] for name in trained}
        entered: list[dict[str, Tensor]] = []
        for b in range(n_batches):
            batch = x[b::n_batches], task_labels[b::n_batches]
            with torch.set_grad_enabled(loss is not None):
                forward = partial(avalanche_forward, model, *batch)
                inputs, outputs = layer_inputs(model, forward)
                entered.append(inputs)
                if loss is None:
                    continue
                value = loss(outputs, y[b::n_batches])
            grads = iter(torch.autograd.grad(value, flat, materialize_grads=True))
            for name, group in trained.items():
                rows[name].append(torch.cat([next(grads).flatten() for _ in group]))
        first, *others = (
            (name, layers[name][0], torch.cat([inputs[name] for inputs in entered]))
            for name in entered[0]
        )
        usages = {first[0]: self._first_usage(*first[1:], k, n_batches)}
        usages |= {name: _usage(layer, inputs) for name, layer, inputs in others}
        return usages, {name: torch.stack(each) for name, each in rows.items() if each}

    def _first_usage(
        self, layer: nn.Module, x: Tensor, k: int, n_batches: int
    ) -> Usage:
        grid = getattr(layer, "grid", None)
        if k in self._first:
            known_grid, usage = self._first[k]
            if grid is None or torch.equal(known_grid, grid):
                return usage
        if k and n_batches == 1:
            # The last bit of sums depends on the order: that of its first comparison.
            x = torch.cat([x[b::BATCHES] for b in range(BATCHES)])
        usage = _usage(layer, x)
        self._first[k] = None if grid is None else grid.clone(), usage
        return usage


@torch.no_grad()
def _usage(layer: nn.Module, x: Tensor) -> Usage:
    bases = layer_bases(layer, x)
    off_grid = layer.off_grid_share(x) if isinstance(layer, KANLinear) else None
    return Usage(Occupancy.of(bases), bases.mean(0), off_grid)


# before an experience: what it shares with those before it


def shared_with_new(
    model: nn.Module,
    samples: Samples,
    new: int,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Iterator[Shared]:
    """What experience ``new`` shares with each one before it, in each layer.

    Args:
        loss: whose gradients are compared, None for overlaps alone.
    """
    usages, gradients = samples.look(model, new, BATCHES, loss)
    for old in range(new):
        usages_before, gradients_before = samples.look(model, old, loss=loss)
        for layer, usage in usages_before.items():
            cosines = None
            if loss is not None:
                cosines = gradient_cosines(gradients_before[layer], gradients[layer])
            yield Shared(layer, old, new, _overlap(usage, usages[layer]), cosines)


def _overlap(old: Usage, new: Usage) -> Overlap | None:
    try:
        views = overlap(old.occupancy, new.occupancy)
        return replace(views, kernel_ratio=kernel_ratio([old.mean], [new.mean]))
    except UndefinedMetric:
        return None


def enter(overlaps: dict[str, Tensor], shared: Shared, n_experiences: int) -> None:
    """Write a pair into ``overlaps``: by layer ``(view, old, new)``, NaN if undefined."""
    if shared.overlap is not None:
        shape = len(VIEWS), n_experiences, n_experiences
        empty = torch.full(shape, torch.nan, dtype=torch.float64)
        pairs = overlaps.setdefault(shared.layer, empty)
        views = [getattr(shared.overlap, view) for view in VIEWS]
        pairs[:, shared.old, shared.new] = pairs.new_tensor(views)


def overlaps_between(
    model: nn.Module, states: Sequence[State], samples: Samples
) -> dict[str, Tensor]:
    """The overlaps of all pairs, each in the state before the new one's training.

    Args:
        model: in the last state.
    """
    overlaps: dict[str, Tensor] = {}
    for new in range(1, len(samples)):
        for shared in shared_with_new(rolled_back(model, states[new]), samples, new):
            enter(overlaps, shared, len(samples))
    return overlaps


def forecasts(runs: Sequence[tuple[Mapping[str, Tensor], Falls]]) -> list[Forecast]:
    """Correlate overlaps with what trainings took, over the pairs of all runs.

    Pairs of one run share its trainings: they are no independent draws.

    Args:
        runs: ``overlaps`` as ``enter`` writes them, and ``falls``; what one run has not
            measured is left out.
    """
    judged = []
    for layer in runs[0][0]:
        for v, view in enumerate(VIEWS):
            known: list[float] = []
            taken: list[float] = []
            for overlaps, fallen in runs:
                values = {
                    p: float(overlaps[layer][v][p]) for p in fallen if layer in overlaps
                }
                pairs = [p for p, value in values.items() if value == value]
                if not pairs:
                    break
                known += [values[p] for p in pairs]
                taken += [fallen[p] for p in pairs]
            else:
                try:
                    correlation = forecast_quality(known, taken)
                except UndefinedMetric:
                    correlation = None
                judged.append(Forecast(view, layer, tuple(known), correlation))
    return judged


# looking back from the last state


def reviews(
    model: nn.Module,
    states: Sequence[State],
    samples: Samples,
    score: Score,
    scored: Samples | None = None,
) -> Iterator[Review]:
    """Review each experience, going back to the state right after its training.

    Args:
        model: in the last state.
        states: before training and after each experience.
        scored: samples to measure rollbacks on; None: ``samples``.
    """
    now = _weights(model)
    for k, then in enumerate(states[1:]):
        earlier = rolled_back(model, then)
        usages, before = samples.look(earlier, k)[0], _weights(earlier)
        moved = {
            layer: (before[layer], after)
            for layer, after in now.items()
            if layer in before and before[layer].shape == after.shape
        }
        bounds = {
            layer: float(drift_bound(usages[layer].occupancy, *sides).mean())
            for layer, sides in moved.items()
        }
        drifts = {layer: drift_per_knot(*sides) for layer, sides in moved.items()}
        back = None
        if k + 2 < len(states):
            measure = partial((scored or samples).score, k=k, score=score)
            back = rollback(model, then, measure)
        yield Review(k, usages, drifts, bounds, back)


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights of every layer that is one (several heads have none in common)."""
    return {
        name: layer_weights(layers[0])
        for name, layers in named_layers(model).items()
        if len(layers) == 1
    }


def by_layer(reviews: Sequence[Review]) -> dict[str, dict[str, Tensor]]:
    """``occupancy``, ``largest`` and ``drift``, each by layer ``(n, in_features, n_basis)``.

    A layer whose grid has grown between experiences is left out.
    """
    usages = [review.usages.items() for review in reviews]
    kinds: dict[str, list[dict[str, Tensor]]] = {
        "occupancy": [
            {layer: u.occupancy.mean for layer, u in each} for each in usages
        ],
        "largest": [
            {layer: u.occupancy.largest for layer, u in each} for each in usages
        ],
        "drift": [dict(review.drifts) for review in reviews],
    }
    stacked: dict[str, dict[str, Tensor]] = {}
    for kind, parts in kinds.items():
        for layer in parts[0]:
            tensors = [part[layer].cpu() for part in parts if layer in part]
            if len(tensors) == len(parts) and len({t.shape for t in tensors}) == 1:
                stacked.setdefault(kind, {})[layer] = torch.stack(tensors)
    return stacked


@torch.no_grad()
def first_layer_leak(
    model: nn.Module, before: State, after: State, x: Tensor
) -> float | None:
    """``leak`` of the first layer between two states, trained on ``x`` and nothing else.

    None if its grid has grown: no coefficient is what it was.
    """
    old, new = (
        next(iter(named_layers(rolled_back(model, state)).values()))[0]
        for state in (before, after)
    )
    weights = layer_weights(old), layer_weights(new)
    if weights[0].shape != weights[1].shape:
        return None
    return leak(visited_at_all(old, x.flatten(1)), *weights)
