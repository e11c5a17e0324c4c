"""Avalanche benchmarks that describe themselves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from avalanche.benchmarks import CLScenario, EagerCLStream
from torch import Tensor

from kancl.metrics.score_matrix import ACCURACY, RMSE, Score


@dataclass(frozen=True)
class BenchmarkInfo:
    """What a model, a strategy and a report need to know of a benchmark."""

    name: str
    dataset: str
    incremental: str
    n_experiences: int
    n_outputs: int  # of a single head, or of each of a task-incremental benchmark's
    in_features: int
    image_shape: tuple[
        int, ...
    ]  # (channels, height, width); of others that of an input
    input_range: tuple[float, float]  # lowest and highest value of an input
    head: str  # "multi" for task-incremental benchmarks, otherwise "single"
    experience_classes: tuple[tuple[int, ...], ...]  # the data set's classes in each
    class_names: tuple[str, ...]
    function: Callable[[Tensor], Tensor] | None = None
    """What a regression is to learn, ``(n, in_features)`` -> ``(n,)``."""

    @property
    def score(self) -> Score:
        """How a network is judged here."""
        return ACCURACY if self.function is None else RMSE


class Benchmark(CLScenario):
    """An Avalanche scenario that describes itself in ``info``.

    Streams: ``train_stream``, ``test_stream`` and, if asked for, ``validation_stream``.
    Experiences carry ``classes_in_this_experience`` and ``task_labels``: the experience's
    number in task-incremental benchmarks, otherwise 0.
    """

    def __init__(self, streams: Sequence[EagerCLStream], info: BenchmarkInfo) -> None:
        super().__init__(streams)
        self.info = info
        for stream in streams:
            stream.benchmark = self
