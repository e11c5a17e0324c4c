"""What a run forgets, and why: states between experiences, diagnosed while it learns."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partialmethod
from typing import Any

import torch
from avalanche.evaluation import PluginMetric
from avalanche.evaluation.metric_results import MetricValue
from torch import Tensor

from kancl.data.rows import as_tensors
from kancl.metrics import diagnosis
from kancl.metrics.locality import conflict_rate, falls, inference, recency_bias
from kancl.metrics.score_matrix import UndefinedMetric
from kancl.models.inspect import eval_mode
from kancl.observe.recorder import RecorderPlugin
from kancl.plugins.plugin import Plugin, Stage

LOCALITY = "locality_"
FAMILIES = tuple(
    "occupancy overlap drift gradients kernel rollback inference forecast leak".split()
)
INFERENCE = ("experience_inference", "within_experience_accuracy", "oracle_accuracy")


class SnapshotPlugin(Plugin):
    """Keep the network's states between experiences, and record what they tell.

    Before an experience t is trained, for every earlier s and each layer: views of their
    overlap, cosines of their gradients, as ``locality_<view>_<layer>_before_<t>`` (t from
    1, the row's experience being s). After it: occupancies, what class-incremental
    accuracy is made of (from evaluations that are run anyway). At the end: drift, rollback
    attribution, and how well overlap forecast what was lost.

    Args:
        samples_per_experience: test images, spread evenly over each experience's rows.
        families: of ``FAMILIES``, what to record; the leak, which takes all training
            samples of an experience, only if it is named.

    Raises: ValueError for a family that there is not, or too few samples.
    """

    stage = Stage.OBSERVE
    state = ("snapshots",)
    transient = ("samples", "pairs", "reviews", "_evaluating", "_evaluated")

    def __init__(
        self,
        recorder: RecorderPlugin,
        test_stream: Iterable[Any],
        samples_per_experience: int = diagnosis.SAMPLES,
        families: Iterable[str] = FAMILIES[:-1],
    ) -> None:
        super().__init__()
        n, least = samples_per_experience, diagnosis.BATCHES
        self.families = frozenset(families)
        for name in self.families.difference(FAMILIES):
            raise ValueError(f"families are some of {[*FAMILIES]}, got {name!r}")
        self.recorder, self.test_stream = recorder, list(test_stream)
        self.samples = diagnosis.Samples(self.test_stream, n, least)
        self.snapshots: list[dict[str, Tensor]] = []
        """The model's state before training and after each experience."""
        self.pairs: list[diagnosis.Shared] = []
        self.reviews: list[diagnosis.Review] = []
        self._evaluating: int | None = None
        self._evaluated: list[tuple[Any, ...]] = []  # experience, outputs, targets

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        t = self.recorder.n_experiences_done
        loss = strategy._criterion if "gradients" in self.families else None
        with self._looking(strategy) as model:
            if not self.snapshots:
                self.snapshots.append(_copy(model))
            for pair in diagnosis.shared_with_new(model, self.samples, t, loss):
                self.pairs.append(pair)
                name, s = f"{pair.layer}_before_{t + 1}", pair.old
                for view, value in asdict(pair.overlap).items() if pair.overlap else ():
                    family = "kernel" if view == "kernel_ratio" else "overlap"
                    self._add(family, f"{view}_{name}", value, s)
                if pair.cosines is not None:
                    cosine, rate = pair.cosines.mean(), conflict_rate(pair.cosines)
                    self._add("gradients", f"gradient_cosine_{name}", float(cosine), s)
                    self._add("gradients", f"gradient_conflict_{name}", rate, s)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        with self._looking(strategy) as model:
            k = len(self.snapshots) - 1
            self.snapshots.append(_copy(model))
            if "leak" in self.families:
                x = as_tensors(strategy.experience.dataset)[0].to(strategy.device)
                leak = diagnosis.first_layer_leak(model, self.snapshots[-2:], x)
                if leak is not None:
                    self._add("leak", "leak", leak, k)
            for name, usage in self.samples.look(model, k)[0].items():
                if usage.off_grid is not None:
                    used = float(usage.occupancy.effective_fraction.mean())
                    self._add("occupancy", f"effective_fraction_{name}", used, k)
                    self._add("occupancy", f"off_grid_{name}", usage.off_grid, k)
            if k + 1 == self.recorder.n_experiences:
                self.look_back(model)
                for review in self.reviews:
                    self._record(review)

    def look_back(self, model: torch.nn.Module) -> None:
        """Make the reviews, with the model in its last state."""
        with eval_mode(model):
            states, score = self.snapshots, self.recorder.score
            self.reviews = [*diagnosis.reviews(model, states, self.samples, score)]

    def _record(self, review: diagnosis.Review) -> None:
        k, back = review.experience, review.rollback
        for layer, drift in review.drifts.items():
            self._add("drift", f"drift_{layer}", float(drift.norm()), k)
            self._add("drift", f"drift_bound_{layer}", review.bounds[layer], k)
        for group, value in back.values.items() if back else ():
            self._add("rollback", f"rollback_{group}", value, k)

    def before_eval(self, strategy: Any, **kwargs: Any) -> None:
        self._evaluated = []

    def before_eval_exp(self, strategy: Any, **kwargs: Any) -> None:
        experience, ours = strategy.experience, self.test_stream[0].origin_stream.name
        same = experience.origin_stream.name == ours
        self._evaluating = int(experience.current_experience) if same else None

    def after_eval_iteration(self, strategy: Any, **kwargs: Any) -> None:
        if self._evaluating is not None:
            batch = strategy.mb_output.detach(), strategy.mb_y
            self._evaluated.append((self._evaluating, *batch))

    def after_eval(self, strategy: Any, **kwargs: Any) -> None:
        recorder = self.recorder
        if not self._evaluated or recorder.in_training:
            return
        with recorder.evaluating(strategy.device):
            with suppress(UndefinedMetric):  # the right experience never won
                self._infer(recorder.n_experiences_done - 1)
            self._evaluated = []
            if recorder.n_experiences_done == recorder.n_experiences:
                self._judge(strategy.model)

    def _judge(self, model: torch.nn.Module) -> None:
        if not self.pairs or self.pairs[0].new > 1:  # a resumed run
            with eval_mode(model):
                between = diagnosis.shared_between
                self.pairs = list(between(model, self.snapshots, self.samples))
        taken = falls(self.recorder.matrix, self.recorder.score.higher_is_better)
        for each in diagnosis.forecasts([(self.pairs, taken)]):
            if each.correlation is not None:
                name = f"forecast_{each.view}_{each.layer}"
                self._add("forecast", name, each.correlation)

    def _infer(self, k: int) -> None:
        owned = [getattr(e, "classes_in_this_experience", []) for e in self.test_stream]
        of_class = {c: s for s, group in enumerate(owned) for c in group}
        # experiences with classes in common are not served by one head
        if not of_class or len(of_class) < sum(map(len, owned)) or k < 1:
            return
        seen = [batch for batch in self._evaluated if batch[0] <= k]
        outputs, targets = (torch.cat([batch[i] for batch in seen]) for i in (1, 2))
        owners = [of_class.get(c, -1) for c in range(outputs.shape[1])]
        parts = inference(outputs, targets, owners)
        for name in INFERENCE:
            self._add("inference", name, getattr(parts, name))
        known = [c for c, owner in enumerate(owners) if 0 <= owner <= k]
        new = [place for place, c in enumerate(known) if owners[c] == k]
        old = torch.cat([outputs for s, outputs, _ in seen if s < k])
        self._add("inference", "recency_bias", recency_bias(old[:, known], new))

    @contextmanager
    def _looking(self, strategy: Any) -> Iterator[torch.nn.Module]:
        """The model in evaluation mode, the time counted as evaluation."""
        self.samples.to(strategy.device)
        with self.recorder.evaluating(strategy.device), eval_mode(strategy.model):
            yield strategy.model

    def _add(
        self, family: str, name: str, value: float, experience: int | None = None
    ) -> None:
        if family in self.families:
            self.recorder.add(f"{LOCALITY}{name}", value, experience)


def _copy(model: torch.nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}


class LocalityMetrics(PluginMetric[dict[str, float]]):
    """What ``SnapshotPlugin`` records, as values of a stock ``EvaluationPlugin``.

    Named ``Locality/<what>``, with ``/Exp<s>`` where it is about one experience. Forecasts
    and what accuracy is made of need ``strategy.eval(test_stream)`` after each experience.
    Args: see ``SnapshotPlugin``.

    Example::

        EvaluationPlugin(LocalityMetrics(benchmark.test_stream), loggers=[TextLogger()])
    """

    def __init__(
        self,
        test_stream: Iterable[Any],
        samples_per_experience: int = diagnosis.SAMPLES,
        families: Iterable[str] = FAMILIES,
    ) -> None:
        super().__init__()
        stream = list(test_stream)
        name = stream[0].origin_stream.name
        self._recorder = RecorderPlugin(len(stream), matrix_stream=name)
        observed = self._recorder, stream, samples_per_experience, families
        self._plugins = self._recorder, SnapshotPlugin(*observed)

    def reset(self) -> None:
        """Nothing is averaged, so nothing starts anew."""

    def result(self) -> dict[str, float]:
        return {value.name: float(value.value) for value in self._values(0)}

    def _values(self, since: int) -> list[MetricValue]:
        values = []
        for m in self._recorder.measurements[since:]:
            if m.name.startswith(LOCALITY):
                name = f"{self}/{m.name.removeprefix(LOCALITY)}"
                name += "" if m.experience is None else f"/Exp{m.experience:03}"
                values.append(MetricValue(self, name, m.value, m.iteration))
        return values

    def _at(self, hook: str, strategy: Any) -> list[MetricValue]:
        since = len(self._recorder.measurements)
        for plugin in self._plugins:
            getattr(plugin, hook)(strategy)
        return self._values(since)

    def __str__(self) -> str:
        return "Locality"


for _hook in (
    "before_training before_training_exp after_training_iteration after_training_exp "
    "after_training before_eval before_eval_exp after_eval_iteration after_eval_exp "
    "after_eval"
).split():
    setattr(LocalityMetrics, _hook, partialmethod(LocalityMetrics._at, _hook))
