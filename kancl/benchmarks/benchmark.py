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
    image_shape: tuple[int, ...]  # (channels, height, width), or that of another input
    input_range: tuple[float, float]  # lowest and highest value of an input
    head: str  # "multi" for task-incremental benchmarks, otherwise "single"
    experience_classes: tuple[tuple[int, ...], ...]  # the data set's classes in each
    class_names: tuple[str, ...]
    pixels_permuted: bool = False  # in some experience: neighbours tell nothing
    function: Callable[[Tensor], Tensor] | None = None
    """What a regression is to learn, ``(n, in_features)`` -> ``(n,)``."""

    @property
    def score(self) -> Score:
        """How a network is judged here."""
        return ACCURACY if self.function is None else RMSE


class Benchmark(CLScenario):
    """An Avalanche scenario that describes itself in ``info``.

    Streams: ``train_stream``, ``test_stream`` and, if asked for, ``validation_stream``.
    Experiences carry ``benchmark``, ``classes_in_this_experience`` and ``task_labels``:
    the number of the planned experience in task-incremental benchmarks (all parts of it
    in an online stream), otherwise 0. Properties are named as in Avalanche's classic
    benchmarks.
    """

    def __init__(self, streams: Sequence[EagerCLStream], info: BenchmarkInfo) -> None:
        super().__init__(streams)
        self.info = info
        for stream in streams:
            stream.benchmark = self
            for experience in stream:
                experience.benchmark = self

    @property
    def n_experiences(self) -> int:
        return self.info.n_experiences

    @property
    def n_classes(self) -> int:
        """Different classes in all experiences; those of the data set, where targets are
        positions among an experience's classes.
        """
        classes: Sequence[Sequence[int]] = self._classes
        if self.info.incremental != "class":
            classes = self.info.experience_classes
        return len({label for group in classes for label in group})

    @property
    def n_classes_per_exp(self) -> list[int]:
        return [len(classes) for classes in self._classes]

    @property
    def classes_order(self) -> list[int]:
        """Class ids, experience by experience.

        Raises: AttributeError where experiences share class ids: there is no order then.
        """
        order = [label for classes in self._classes for label in classes]
        if len(order) > len({*order}):
            raise AttributeError(
                f"{self.info.name} has no classes_order: its experiences share class ids; "
                "iCaRL and others that read it need scenario.incremental=class "
                "(incremental='class' in Python)"
            )
        return order

    @property
    def _classes(self) -> list[list[int]]:
        if self.info.score is not ACCURACY:
            raise AttributeError(
                f"{self.info.name} is a regression, so it has no classes: use metrics "
                "and strategies that read none"
            )
        return [[*e.classes_in_this_experience] for e in self.streams["train"]]
