"""The metrics of locality for any Avalanche script, its own loggers and strategies."""

from collections.abc import Iterable
from functools import partialmethod
from typing import Any

from avalanche.evaluation import PluginMetric
from avalanche.evaluation.metric_results import MetricValue

from kancl.metrics.diagnosis import SAMPLES
from kancl.observe.snapshots import FAMILIES, LOCALITY, SnapshotPlugin
from kancl.plugins.measuring.recorder import RecorderPlugin


class LocalityMetrics(PluginMetric[dict[str, float]]):
    """What ``SnapshotPlugin`` records, as values of a stock ``EvaluationPlugin``.

    Named ``Locality/<what>``, with ``/Exp<s>`` where it is about one experience; pairs are
    ``Locality/<view>_<layer>_before_<t>/Exp<s>``, t from 1 as there. Forecasts and what
    accuracy is made of need ``strategy.eval(test_stream)`` after each experience.

    Args:
        test_stream: of the benchmark; samples of it are looked at.
        samples_per_experience, families: see ``SnapshotPlugin``.

    Example::

        EvaluationPlugin(LocalityMetrics(benchmark.test_stream), loggers=[TextLogger()])
    """

    def __init__(
        self,
        test_stream: Iterable[Any],
        samples_per_experience: int = SAMPLES,
        families: Iterable[str] = FAMILIES,
    ) -> None:
        super().__init__()
        stream = list(test_stream)
        name = stream[0].origin_stream.name
        self._recorder = recorder = RecorderPlugin(len(stream), matrix_stream=name)
        snapshots = SnapshotPlugin(recorder, stream, samples_per_experience, families)
        self._plugins = recorder, snapshots
        self._n_told = 0

    def reset(self) -> None:
        """Nothing is averaged, so nothing starts anew."""

    def result(self) -> dict[str, float]:
        """The latest value of each name."""
        return {value.name: float(value.value) for value in self._values(0)}

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
            if m.name.startswith(LOCALITY)
        ]

    def _at(self, hook: str, strategy: Any) -> list[MetricValue]:
        for plugin in self._plugins:
            getattr(plugin, hook)(strategy)
        values = self._values(self._n_told)
        self._n_told = len(self._recorder.measurements)
        return values

    def __str__(self) -> str:
        return "Locality"


for _hook in (
    *("before_training", "before_training_exp", "after_training_iteration"),
    *("after_training_exp", "after_training", "before_eval", "before_eval_exp"),
    *("after_eval_iteration", "after_eval_exp", "after_eval"),
):
    setattr(LocalityMetrics, _hook, partialmethod(LocalityMetrics._at, _hook))
