"""The metrics of locality for any Avalanche script, its own loggers and strategies."""

from collections.abc import Iterable
from functools import partialmethod
from typing import Any

from avalanche.evaluation import PluginMetric
from avalanche.evaluation.metric_results import MetricValue

from kancl.data.rows import as_tensors
from kancl.metrics.locality import leak_of_layer
from kancl.models.inspect import layer_weights, named_layers
from kancl.observe.recorder import RecorderPlugin
from kancl.observe.snapshots import LOCALITY, LocalityPlugin

FAMILIES = {
    "occupancy": ("off_grid_", "effective_fraction_"),
    "overlap": ("exposure_", "bhattacharyya_", "jaccard_", "coactivation_"),
    "drift": ("drift_",),
    "leak": ("leak",),
    "gradients": ("gradient_",),
    "kernel": ("kernel_ratio_",),
    "rollback": ("rollback_",),
    "inference": ("right_", "recency_bias"),
    "forecast": ("forecast_",),
}
"""Begin of the names of each family's values."""


class LocalityMetrics(PluginMetric[dict[str, float]]):
    """What ``LocalityPlugin`` records, as values of a stock ``EvaluationPlugin``.

    Named ``Locality/<what>``, with ``/Exp<s>`` where it is about one experience; pairs are
    ``Locality/<view>_<layer>_before_<t>/Exp<s>``, t from 1 as there. ``leak`` is that of
    the first layer in one experience, over all of its training samples. Forecasts and
    what accuracy is made of need ``strategy.eval(test_stream)`` after each experience.

    Args:
        test_stream: of the benchmark; samples of it are looked at.
        samples_per_experience: spread evenly over each experience's rows.
        families: of ``FAMILIES``; the others are not reported.

    Raises: ValueError for a family that there is not, and as ``LocalityPlugin`` does.

    Example::

        EvaluationPlugin(LocalityMetrics(benchmark.test_stream), loggers=[TextLogger()])
    """

    def __init__(
        self,
        test_stream: Iterable[Any],
        samples_per_experience: int = 64,
        families: Iterable[str] = tuple(FAMILIES),
    ) -> None:
        super().__init__()
        chosen = list(families)
        unknown = [name for name in chosen if name not in FAMILIES]
        if unknown:
            raise ValueError(f"families are some of {[*FAMILIES]}, got {unknown[0]!r}")
        stream = list(test_stream)
        self._recorder = RecorderPlugin(
            len(stream), matrix_stream=stream[0].origin_stream.name
        )
        self._plugin = LocalityPlugin(self._recorder, stream, samples_per_experience)
        starts = [f"{LOCALITY}{start}" for name in chosen for start in FAMILIES[name]]
        self._starts = tuple(starts)
        self._follows_leak = "leak" in chosen
        self._n_told = 0

    def reset(self) -> None:
        """Nothing is averaged, so nothing starts anew."""

    def result(self) -> dict[str, float]:
        """The latest value of each name."""
        return {value.name: float(value.value) for value in self._values(0)}

    def before_training_exp(self, strategy: Any) -> list[MetricValue]:
        self._before = layer_weights(self._first_layer(strategy))
        return self._at("before_training_exp", strategy)

    def after_training_exp(self, strategy: Any) -> list[MetricValue]:
        layer = self._first_layer(strategy)
        after = layer_weights(layer)
        if self._follows_leak and after.shape == self._before.shape:
            x = as_tensors(strategy.experience.dataset)[0].flatten(1)
            moved = leak_of_layer(layer, x.to(after.device), self._before, after)
            self._recorder.add(f"{LOCALITY}leak", moved, self._recorder.n_trained)
        return self._at("after_training_exp", strategy)

    def _at(self, hook: str, strategy: Any) -> list[MetricValue]:
        for plugin in (self._recorder, self._plugin):
            getattr(plugin, hook)(strategy)
        values = self._values(self._n_told)
        self._n_told = len(self._recorder.measurements)
        return values

    before_training = partialmethod(_at, "before_training")
    after_training_iteration = partialmethod(_at, "after_training_iteration")
    after_training = partialmethod(_at, "after_training")
    before_eval = partialmethod(_at, "before_eval")
    before_eval_exp = partialmethod(_at, "before_eval_exp")
    after_eval_iteration = partialmethod(_at, "after_eval_iteration")
    after_eval_exp = partialmethod(_at, "after_eval_exp")
    after_eval = partialmethod(_at, "after_eval")

    def _values(self, since: int) -> list[MetricValue]:
        return [
            MetricValue(
                self,
                f"{self}/{m.name.removeprefix(LOCALITY)}"
                + ("" if m.experience is None else f"/Exp{m.experience:03}"),
                m.value,
                m.iteration,
            )
            for m in self._recorder.measurements[since:]
            if m.name.startswith(self._starts)
        ]

    def _first_layer(self, strategy: Any) -> Any:
        return next(iter(named_layers(strategy.model).values()))[0]

    def __str__(self) -> str:
        return "Locality"
