"""What a run forgot, and why, from a network's states between experiences."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

import torch
from avalanche.models import avalanche_forward
from torch import Tensor, nn

from kancl.data.rows import as_tensors
from kancl.metrics import locality
from kancl.metrics.score_matrix import Score, UndefinedMetric
from kancl.models import inspect
from kancl.models.heads import GrowingHead
from kancl.models.kan_linear import KANLinear

SAMPLES = 64  # of each experience's test samples, to look at
BATCHES = 2  # of a new experience, whose gradients are compared with an old one's

State = Mapping[str, Tensor]
Falls = Mapping[tuple[int, int], float]
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Usage:
    """How an experience's samples use one layer."""

    occupancy: locality.Occupancy
    mean: Tensor  # of the bases with their sign, (in_features, n_basis)
    off_grid: float | None  # share of the inputs; None for a linear layer


@dataclass(frozen=True)
class Shared:
    """What two experiences share in a layer, before the new one is trained."""

    layer: str
    old: int
    new: int
    overlap: locality.Overlap | None  # None if nothing of one of them is on the grid
    cosines: Tensor | None  # of their gradients, (1, BATCHES); None without a loss


@dataclass(frozen=True)
class Rollback:
    """Score on an old experience with groups of parameters put back."""

    now: float  # with nothing put back
    regained: Mapping[str, float]  # by group, with that group alone as it was; and all

    @property
    def values(self) -> dict[str, float]:
        """By group, with ``nothing`` first and ``all`` last."""
        return {"nothing": self.now, **self.regained}

    @property
    def then(self) -> float:
        return self.regained["all"]

    @property
    def forgotten(self) -> float:
        return self.then - self.now

    def share(self, group: str) -> float | None:
        """What a group alone brings back of what was forgotten; they need not add up."""
        lost = self.forgotten
        return (self.regained[group] - self.now) / lost if lost else None


@dataclass(frozen=True)
class Review:
    """What became of an experience, seen from the last state; mappings are by layer."""

    experience: int
    usages: Mapping[str, Usage]  # right after its training
    drifts: Mapping[str, Tensor]  # per knot since, if there are as many as then
    bounds: Mapping[str, float]  # drift_bound of the same layers, mean over outputs
    rollback: Rollback | None  # None for the last experience


@dataclass(frozen=True)
class Forecast:
    """How well one view of overlap in one layer foretold what trainings took."""

    layer: str
    view: str
    overlaps: tuple[float, ...]  # of all pairs of experiences, of one run or several
    correlation: float | None  # of ranks, with what was taken; None if undefined


@dataclass(frozen=True)
class Diagnosis:
    """What is known of a run."""

    label: str  # <model>-<strategy>
    title: str
    score: Score
    image_shape: tuple[int, ...]
    matrix: Tensor  # of scores, (N + 1, N)
    reviews: Sequence[Review]
    pairs: Sequence[Shared]
    leak: float  # largest move of a first layer's coefficient that no sample touched
    inference: Mapping[str, float]  # fields of Inference at the end, if defined
    foretold: Mapping[str, Falls]  # by kind of forecast, what was told before
    forecast_costs: Mapping[str, float]  # by kind: its time, as a share of training's

    @property
    def falls(self) -> Falls:
        return locality.falls(self.matrix, self.score.higher_is_better)


class Samples:
    """Test samples of each experience (None: all), spread evenly over its rows."""

    def __init__(
        self, stream: Iterable[Any], per_experience: int | None, least: int = 1
    ) -> None:
        if per_experience is not None and per_experience < least:
            raise ValueError(
                f"samples_per_experience must be at least {least}, got {per_experience}"
            )
        with torch.random.fork_rng(devices=[]):  # a stock transform may draw
            self.parts = [as_tensors(e.dataset, per_experience) for e in stream]
        # the first layer's grid and usages: what enters it stays the same
        self._first: dict[int, tuple[Tensor, Usage]] = {}

    def to(self, device: torch.device) -> None:
        parts = [(x.to(device), y.to(device), t.to(device)) for x, y, t in self.parts]
        self.parts = parts

    def score(self, model: nn.Module, k: int, score: Score) -> float:
        """How the network does on experience k."""
        x, y, task_labels = self.parts[k]
        chunks = inspect.evaluate_in_chunks(
            model, x, task_labels, chunk=locality.AT_ONCE
        )
        each = [score.per_sample(outputs, y[rows]) for rows, outputs in chunks]
        return float(score.reduce(torch.cat(each).double().mean()))

    def look(
        self, model: nn.Module, k: int, n_batches: int = 1, loss: Loss | None = None
    ) -> tuple[dict[str, Usage], dict[str, Tensor]]:
        """By layer, how experience k uses it; with a loss, a row of gradients per batch."""
        x, y, task_labels = self.parts[k]
        layers = inspect.named_layers(model)
        entered, rows = [], []
        for rest in range(n_batches):
            batch = slice(rest, None, n_batches)
            forward = partial(avalanche_forward, model, x[batch], task_labels[batch])
            with torch.set_grad_enabled(loss is not None):
                inputs, outputs = inspect.layer_inputs(model, forward)
                entered.append(inputs)
                if loss is not None:
                    rows.append(_gradients(layers, loss(outputs, y[batch])))
        gradients = {n: torch.stack([r[n] for r in rows]) for r in rows[:1] for n in r}
        usages: dict[str, Usage] = {}
        for name in entered[0]:
            joined = torch.cat([inputs[name] for inputs in entered])
            usage = _usage if usages else partial(self._first_usage, k, n_batches)
            usages[name] = usage(layers[name][0], joined)
        return usages, gradients

    def _first_usage(self, k: int, n: int, layer: nn.Module, x: Tensor) -> Usage:
        grid = getattr(layer, "grid", torch.empty(0))
        if k in self._first and torch.equal(self._first[k][0], grid):
            return self._first[k][1]
        if k and n == 1:
            # The last bit of sums depends on the order: that of its first comparison.
            x = torch.cat([x[rest::BATCHES] for rest in range(BATCHES)])
        self._first[k] = grid.clone(), _usage(layer, x)
        return self._first[k][1]


@torch.no_grad()
def _usage(layer: nn.Module, x: Tensor) -> Usage:
    bases = inspect.layer_bases(layer, x)
    off_grid = layer.off_grid_share(x) if isinstance(layer, KANLinear) else None
    return Usage(locality.Occupancy.of(bases), bases.mean(0), off_grid)


def _gradients(layers: Mapping[str, Sequence[nn.Module]], loss: Tensor) -> State:
    """By layer, the gradient of its trained parameters, end to end."""
    trained = {
        name: [p for m in group for p in m.parameters() if p.requires_grad]
        for name, group in layers.items()
    }
    flat = list(chain(*trained.values()))
    gradients = torch.autograd.grad(loss, flat, materialize_grads=True)
    each = iter([gradient.flatten() for gradient in gradients])
    return {n: torch.cat([next(each) for _ in group]) for n, group in trained.items()}


def shared_with_new(
    model: nn.Module, samples: Samples, new: int, loss: Loss | None = None
) -> Iterator[Shared]:
    """What experience ``new`` shares with each one before it, in each layer.

    The model is in evaluation mode; with a loss, its gradients are compared too.
    """
    if new == 0:
        return
    usages, gradients = samples.look(model, new, BATCHES, loss)
    for old in range(new):
        usages_before, before = samples.look(model, old, loss=loss)
        for layer, usage in usages_before.items():
            views = cosines = None
            with suppress(UndefinedMetric):
                views = locality.overlap(usage.occupancy, usages[layer].occupancy)
                ratio = locality.kernel_ratio([usage.mean], [usages[layer].mean])
                views = replace(views, kernel_ratio=ratio)
            if loss is not None:
                cosines = locality.gradient_cosines(before[layer], gradients[layer])
            yield Shared(layer, old, new, views, cosines)


def shared_between(
    model: nn.Module, states: Sequence[State], samples: Samples
) -> Iterator[Shared]:
    """What all pairs of experiences share, in the state before the new one's training."""
    for new, state in enumerate(states[1:-1], start=1):
        with put_back(model, state) as earlier:
            yield from shared_with_new(earlier, samples, new)


def forecasts(runs: Sequence[tuple[Iterable[Shared], Falls]]) -> list[Forecast]:
    """Correlate overlaps with what trainings took, over the pairs of all runs.

    A view of a layer that one run has not measured is left out.
    """
    measured = []
    for pairs, taken in runs:
        views: Any = defaultdict(dict)  # overlaps by layer and view, then by pair
        for p in pairs:
            for view, value in asdict(p.overlap).items() if p.overlap else ():
                views[p.layer, view][p.old, p.new] = value, taken.get((p.old, p.new))
        measured.append(views)
    judged = []
    for view in measured[0]:
        each = [sorted(views[view].items()) for views in measured if view in views]
        known = [both for run in each for _, both in run if both[1] is not None]
        if known and len(each) == len(measured):
            overlaps, lost = zip(*known)
            correlation = None
            with suppress(UndefinedMetric):
                correlation = locality.forecast_quality(overlaps, lost)
            layer, name = view
            judged.append(Forecast(layer, name, overlaps, correlation))
    return judged


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
        with put_back(model, then) as earlier:
            usages, before = samples.look(earlier, k)[0], _weights(earlier)
        drifts, bounds, back = {}, {}, None
        for layer, after in now.items():
            if layer in before and before[layer].shape == after.shape:
                sides = before[layer], after
                drifts[layer] = locality.drift_per_knot(*sides)
                bound = locality.drift_bound(usages[layer].occupancy, *sides)
                bounds[layer] = float(bound.mean())
        if k + 2 < len(states):
            measure = partial((scored or samples).score, k=k, score=score)
            back = rollback(model, then, measure)
        yield Review(k, usages, drifts, bounds, back)


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights of every layer that is one (several heads have none in common)."""
    layers = inspect.named_layers(model).items()
    return {n: inspect.layer_weights(one) for n, (one, *more) in layers if not more}


def by_layer(reviews: Sequence[Review]) -> dict[str, dict[str, Tensor]]:
    """``occupancy``, ``largest`` and ``drift``, each by layer ``(n, in_features, n_basis)``.

    A layer whose grid has grown between experiences is left out.
    """
    usages = [review.usages.items() for review in reviews]
    kinds: dict[str, Sequence[Mapping[str, Tensor]]] = {
        "occupancy": [{n: u.occupancy.mean for n, u in each} for each in usages],
        "largest": [{n: u.occupancy.largest for n, u in each} for each in usages],
        "drift": [review.drifts for review in reviews],
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
    model: nn.Module, states: Sequence[State], x: Tensor
) -> float | None:
    """``leak`` of the first layer between two states, trained on ``x`` and nothing else.

    None if its grid has grown: no coefficient is what it was.
    """
    models = (rolled_back(model, state) for state in states)
    old, new = (next(iter(inspect.named_layers(m).values()))[0] for m in models)
    before, after = inspect.layer_weights(old), inspect.layer_weights(new)
    if before.shape != after.shape:
        return None
    parts = x.flatten(1).split(locality.AT_ONCE)
    each = (locality.Occupancy.of(inspect.layer_bases(old, part)) for part in parts)
    visited = torch.stack([occupancy.visited(threshold=0) for occupancy in each])
    return locality.leak(visited.any(0), before, after)


def rollback(
    model: nn.Module, then: State, evaluate: Callable[[nn.Module], float]
) -> Rollback:
    """Evaluate with each group of ``state_groups`` alone as it was ``then``."""
    regained = {}
    for name, keys in inspect.state_groups(model).items():
        with put_back(model, then, keys) as earlier:
            regained[name] = evaluate(earlier)
    return Rollback(evaluate(model), regained)


@contextmanager
def put_back(
    model: nn.Module, then: State, keys: Iterable[str] | None = None
) -> Iterator[nn.Module]:
    """``rolled_back`` for a while: the model itself, unless more than values differ."""
    state, parameters = model.state_dict(), dict(model.named_parameters())
    chosen = set(state if keys is None else keys)
    then = {key: then[key].to(state[key].device) for key in chosen if key in then}
    if any(
        key not in then
        or then[key].shape != state[key].shape
        or not (key in parameters or torch.equal(then[key], state[key]))
        for key in chosen
    ):
        yield rolled_back(model, then, chosen)
        return
    now = {key: parameters[key].data for key in chosen & parameters.keys()}
    try:
        for key in now:
            parameters[key].data = then[key]
        yield model
    finally:
        for key, value in now.items():
            parameters[key].data = value


@torch.no_grad()
def rolled_back(
    model: nn.Module, then: State, keys: Iterable[str] | None = None
) -> nn.Module:
    """A copy of the model with parts of its state (None: all) as they were ``then``.

    Heads that did not exist then are gone with the group they belong to; a grid that has
    grown since shrinks again with its splines.
    """
    copy = deepcopy(model)
    chosen = set(copy.state_dict() if keys is None else keys)
    for name, module in copy.named_modules():
        head = f"{name}.head_of_class" if name else "head_of_class"
        if isinstance(module, GrowingHead) and head in chosen:
            module.keep_heads(int(then[head].max()) + 1)
    state = copy.state_dict()
    state |= {key: then[key] for key in state if key in chosen and key in then}
    copy.load_state_dict(state)
    return copy
