"""How local a run's learning is, measured while it learns."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from avalanche.models import avalanche_forward
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor, nn

from kancl.data.rows import as_tensors
from kancl.metrics.forecast import falls, kernel_ratio
from kancl.metrics.locality import (
    Occupancy,
    drift_bound,
    drift_per_knot,
    forecast_quality,
    gradient_cosines,
    inference,
    overlap,
    recency_bias,
)
from kancl.metrics.rollback import put_back, rollback
from kancl.metrics.score_matrix import UndefinedMetric
from kancl.models.inspect import (
    layer_bases,
    layer_inputs,
    layer_weights,
    named_layers,
)
from kancl.models.kan_linear import KANLinear
from kancl.observe.curves import in_eval_mode
from kancl.observe.recorder import RecorderPlugin

LOCALITY = "locality_"
"""Begin of the measurements' names."""
VIEWS = ("exposure", "bhattacharyya", "jaccard", "coactivation", "kernel_ratio")
BATCHES = 2
"""Of the new experience's samples, whose gradients are compared with the old one's."""


class LocalityPlugin(SupervisedPlugin):
    """Record what experiences share, what moved, and which parameters forgot.

    Before an experience t is trained, for every earlier s and each layer: five views of
    their overlap and the cosines of their gradients; these are known before t has done
    any harm. After it: occupancies, what class-incremental accuracy is made of. At the
    end: drift, rollback attribution, and how well the overlaps forecast what each
    training took from each earlier experience. What accuracy is made of is read off the
    evaluations that are run anyway, all else off a sample of test images: no training
    image is touched, and the parameters trained are the same to the bit.

    ``drift_bound`` is of what the splines (of a linear layer, its weights) give to the
    outputs; a base branch and biases come on top.

    Measurements are named ``locality_...``; pairs ``locality_<view>_<layer>_before_<t>``
    (t from 1, the row's experience being s). Put it behind the recorder.

    Args:
        samples_per_experience: spread evenly over each experience's rows.
    """

    NOT_RESUMED = frozenset({"_first", "_samples", "_evaluated"})

    def __init__(
        self,
        recorder: RecorderPlugin,
        test_stream: Iterable[Any],
        samples_per_experience: int = 64,
    ) -> None:
        super().__init__()
        if samples_per_experience < BATCHES:
            raise ValueError(
                f"samples_per_experience must be at least {BATCHES}, got "
                f"{samples_per_experience}"
            )
        self._recorder = recorder
        experiences = list(test_stream)
        with torch.random.fork_rng(devices=[]):  # a stock transform may draw
            self._samples = [
                as_tensors(e.dataset, samples_per_experience) for e in experiences
            ]
        self._stream: str = experiences[0].origin_stream.name
        classes = [getattr(e, "classes_in_this_experience", []) for e in experiences]
        apart = sum(map(len, classes)) == len(set().union(*classes)) > 0
        self._classes: list[list[int]] = classes if apart else []
        """Of each experience, where they have none in common and one head serves all."""
        self.snapshots: list[dict[str, Tensor]] = []
        """The model's state before training and after each experience."""
        self.occupancies: dict[str, list[Tensor]] = {}
        """By layer, ``(in_features, n_basis)`` of each experience once it was trained."""
        self.largest: dict[str, list[Tensor]] = {}
        """The same of the largest activations."""
        self.drifts: dict[str, list[Tensor]] = {}
        """By layer, drift per knot since each experience, ``(in_features, n_basis)``."""
        self._first: dict[int, Any] = {}
        self._evaluating: int | None = None
        self._evaluated: list[tuple[int, Tensor, Tensor]] = []
        """Experience, outputs and targets of each batch of an evaluation under way."""

    # hooks

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        with self._looking(strategy):
            if not self.snapshots:
                self.snapshots.append(_state(strategy.model))
            t = self._recorder.n_trained
            if t:
                self._compare(strategy, t)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        with self._looking(strategy):
            k = len(self.snapshots) - 1
            self.snapshots.append(_state(strategy.model))
            inputs, _ = layer_inputs(strategy.model, lambda: self._outputs(strategy, k))
            layers = named_layers(strategy.model)
            for name, (occupancy, _) in self._occupied(strategy, k, inputs).items():
                self.occupancies.setdefault(name, []).append(occupancy.mean.cpu())
                self.largest.setdefault(name, []).append(occupancy.largest.cpu())
                layer = layers[name][0]
                if isinstance(layer, KANLinear):
                    used = float(occupancy.effective_fraction.mean())
                    self._add(f"effective_fraction_{name}", used, k)
                    outside = layer.off_grid_share(inputs[name].flatten(1))
                    self._add(f"off_grid_{name}", outside, k)
            if k + 1 == self._recorder.n_experiences:
                self._look_back(strategy)

    def before_eval(self, strategy: Any, **kwargs: Any) -> None:
        self._evaluated = []

    def before_eval_exp(self, strategy: Any, **kwargs: Any) -> None:
        experience = strategy.experience
        ours = experience.origin_stream.name == self._stream
        self._evaluating = int(experience.current_experience) if ours else None

    def after_eval_iteration(self, strategy: Any, **kwargs: Any) -> None:
        if self._evaluating is not None:
            batch = strategy.mb_output.detach(), strategy.mb_y
            self._evaluated.append((self._evaluating, *batch))

    def after_eval(self, strategy: Any, **kwargs: Any) -> None:
        recorder = self._recorder
        if not self._evaluated or recorder.in_training:
            return
        with recorder.evaluating(strategy.device):
            self._infer(recorder.n_trained - 1)
            self._evaluated = []
            if recorder.n_trained == recorder.n_experiences:
                self._judge_forecasts()

    # what experiences share, before one of them is trained

    def _compare(self, strategy: Any, t: int) -> None:
        latest, seen = self._pass(strategy, t, BATCHES)
        for s in range(t):
            gradients, seen_before = self._pass(strategy, s)
            for layer, (old, old_mean) in seen_before.items():
                new, new_mean = seen[layer]
                pair = f"{layer}_before_{t + 1}"
                try:
                    views = overlap(old, new)._asdict()
                    views["kernel_ratio"] = kernel_ratio([old_mean], [new_mean])
                except UndefinedMetric:
                    views = {}  # nothing of one of them is on the grid
                for view, found in views.items():
                    self._add(f"{view}_{pair}", found, s)
                cosines = gradient_cosines(gradients[layer], latest[layer])
                self._add(f"gradient_cosine_{pair}", float(cosines.mean()), s)
                against = float((cosines < 0).double().mean())
                self._add(f"gradient_conflict_{pair}", against, s)

    def _pass(
        self, strategy: Any, k: int, n_batches: int = 1
    ) -> tuple[dict[str, Tensor], dict[str, tuple[Occupancy, Tensor]]]:
        """Experience k's samples: by layer gradients, a row each batch, and ``_occupied``."""
        x, y, labels = (part.to(strategy.device) for part in self._samples[k])
        layers = named_layers(strategy.model)
        parameters = {name: _trained(parts) for name, parts in layers.items()}
        flat = [p for group in parameters.values() for p in group]
        rows: dict[str, list[Tensor]] = {name: [] for name in layers}
        entered: list[dict[str, Tensor]] = []
        for b in range(n_batches):
            batch = x[b::n_batches], labels[b::n_batches]
            with torch.enable_grad():
                inputs, outputs = layer_inputs(
                    strategy.model, lambda: avalanche_forward(strategy.model, *batch)
                )
                loss = strategy._criterion(outputs, y[b::n_batches])
            entered.append(inputs)
            grads = iter(torch.autograd.grad(loss, flat, materialize_grads=True))
            for name, group in parameters.items():
                rows[name].append(torch.cat([next(grads).flatten() for _ in group]))
        gradients = {name: torch.stack(batches) for name, batches in rows.items()}
        inputs = {name: torch.cat([e[name] for e in entered]) for name in entered[0]}
        return gradients, self._occupied(strategy, k, inputs)

    @torch.no_grad()
    def _occupied(
        self, strategy: Any, k: int, inputs: Mapping[str, Tensor]
    ) -> dict[str, tuple[Occupancy, Tensor]]:
        """Of each layer: how experience k's samples use it, and their mean bases."""
        layers = named_layers(strategy.model)
        found = {}
        for name, x in inputs.items():
            layer = layers[name][0]
            if name == next(iter(inputs)):  # what enters it stays the same
                found[name] = self._first_occupied(layer, x.flatten(1), k)
            else:
                bases = layer_bases(layer, x.flatten(1))
                found[name] = Occupancy.of(bases), bases.mean(0)
        return found

    def _first_occupied(
        self, layer: nn.Module, x: Tensor, k: int
    ) -> tuple[Occupancy, Tensor]:
        grid = getattr(layer, "grid", None)
        if k in self._first:
            known_grid, occupied = self._first[k]
            if grid is None or torch.equal(known_grid, grid):
                return occupied
        bases = layer_bases(layer, x)
        occupied = Occupancy.of(bases), bases.mean(0)
        self._first[k] = None if grid is None else grid.clone(), occupied
        return occupied

    # what class-incremental accuracy is made of

    def _infer(self, k: int) -> None:
        if not self._classes or k < 1:
            return
        of_class = {c: e for e, group in enumerate(self._classes) for c in group}
        seen = [batch for batch in self._evaluated if batch[0] <= k]
        outputs = torch.cat([outputs for _, outputs, _ in seen])
        targets = torch.cat([targets for _, _, targets in seen])
        owners = [of_class.get(c, -1) for c in range(outputs.shape[1])]
        try:
            split = inference(outputs, targets, owners)
        except UndefinedMetric:
            return  # the right experience never won: no point to record
        self._add("right_experience", split.experience)
        self._add("right_within", split.within)
        self._add("right_if_told", split.given_experience)
        classes = [c for c in range(outputs.shape[1]) if 0 <= owners[c] <= k]
        new = [place for place, c in enumerate(classes) if owners[c] == k]
        old = torch.cat([outputs for s, outputs, _ in seen if s < k])
        self._add("recency_bias", recency_bias(old[:, classes], new))

    # looking back, at the end

    def _look_back(self, strategy: Any) -> None:
        model = strategy.model
        now = _weights(model)
        n = self._recorder.n_experiences
        for k in range(n):
            state = {
                key: value.to(strategy.device)
                for key, value in self.snapshots[k + 1].items()
            }
            with put_back(model, state, state.keys()) as earlier:
                then = _weights(earlier)
            for layer, after in now.items():
                before = then.get(layer)
                if before is None or before.shape != after.shape:
                    continue  # a grid that has grown since
                drift = drift_per_knot(before, after)
                self.drifts.setdefault(layer, []).append(drift.cpu())
                self._add(f"drift_{layer}", float(drift.norm()), k)
                mean = self.occupancies[layer][k].to(after.device)
                largest = self.largest[layer][k].to(after.device)
                occupancy = Occupancy(mean, largest, len(self._samples[k][1]))
                bound = drift_bound(occupancy, before, after)
                self._add(f"drift_bound_{layer}", float(bound.mean()), k)
            if k + 1 < n:
                back = rollback(model, state, lambda m: self._score(strategy, m, k))
                self._add("rollback_nothing", back.now, k)
                for group, value in back.regained.items():
                    self._add(f"rollback_{group}", value, k)

    def _judge_forecasts(self) -> None:
        recorder = self._recorder
        taken = falls(recorder.matrix, recorder.score.higher_is_better)
        series: dict[str, dict[tuple[int, int], float]] = {}
        for m in recorder.measurements:
            name, _, t = m.name.removeprefix(LOCALITY).rpartition("_before_")
            if name.startswith(VIEWS) and m.experience is not None:
                series.setdefault(name, {})[m.experience, int(t) - 1] = m.value
        for name, forecast in series.items():
            pairs = sorted(forecast.keys() & taken.keys())
            sides = [forecast[p] for p in pairs], [taken[p] for p in pairs]
            try:
                self._add(f"forecast_{name}", forecast_quality(*sides))
            except UndefinedMetric:
                continue  # too few pairs, or nothing differs: no point to record

    # tools

    @contextmanager
    def _looking(self, strategy: Any) -> Iterator[None]:
        """In evaluation mode, the time counted as evaluation."""
        with self._recorder.evaluating(strategy.device), in_eval_mode(strategy.model):
            yield

    def _outputs(self, strategy: Any, k: int, model: nn.Module | None = None) -> Tensor:
        x, _, labels = (part.to(strategy.device) for part in self._samples[k])
        with torch.no_grad():
            outputs: Tensor = avalanche_forward(model or strategy.model, x, labels)
        return outputs

    def _score(self, strategy: Any, model: nn.Module, k: int) -> float:
        score = self._recorder.score
        outputs = self._outputs(strategy, k, model)
        each = score.per_sample(outputs, self._samples[k][1].to(outputs.device))
        return float(score.reduce(each.double().mean()))

    def _add(self, name: str, value: float, experience: int | None = None) -> None:
        self._recorder.add(f"{LOCALITY}{name}", value, experience)


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {
        key: value.detach().cpu().clone() for key, value in model.state_dict().items()
    }


def _trained(layers: Sequence[nn.Module]) -> list[nn.Parameter]:
    return [p for layer in layers for p in layer.parameters() if p.requires_grad]


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """Of every layer that is one (several heads have no common weights)."""
    return {
        name: layer_weights(layers[0])
        for name, layers in named_layers(model).items()
        if len(layers) == 1
    }
