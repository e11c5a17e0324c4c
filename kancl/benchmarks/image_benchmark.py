"""Avalanche benchmarks over images in memory.

A scenario says what its experiences consist of (:class:`ExperiencePlan`); ``assemble``
makes train, test and validation streams of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from avalanche.benchmarks import (
    CLScenario,
    EagerCLStream,
    benchmark_from_datasets,
    with_classes_timeline,
    with_task_labels,
)
from torch import Tensor

from kancl.benchmarks.options import ImageOptions
from kancl.benchmarks.selection import cap, hold_out, rows_by_class
from kancl.data.images import Images
from kancl.data.pixels import pad_images, rotate_images, scaling
from kancl.data.rows import Store, rows_dataset
from kancl.metrics.score import ACCURACY, RMSE, Score

_CLASS_LISTS = (  # sets from Avalanche; its own MultiHeadClassifier needs lists
    "classes_in_this_experience",
    "previous_classes",
    "classes_seen_so_far",
    "future_classes",
)


@dataclass(frozen=True)
class BenchmarkInfo:
    """What a model, a strategy and a report need to know of a benchmark.

    Args:
        n_outputs: of a single head that serves all experiences; for task-incremental
            benchmarks, of each experience's own head.
        image_shape: ``(1, height, width)``; of a regression, ``(in_features,)``.
        input_range: values of a black and of a white pixel.
        head: ``"multi"`` for task-incremental benchmarks, otherwise ``"single"``.
        classes_per_experience: number of different targets in one experience.
        experience_classes: for each experience, the data set's classes in it.
        function: what a regression is to learn, ``(n, in_features)`` -> ``(n,)``; None
            where classes are learned.
    """

    name: str
    dataset: str
    incremental: str
    n_experiences: int
    n_outputs: int
    in_features: int
    image_shape: tuple[int, ...]
    input_range: tuple[float, float]
    head: str
    classes_per_experience: int
    experience_classes: tuple[tuple[int, ...], ...]
    class_names: tuple[str, ...]
    function: Callable[[Tensor], Tensor] | None = None

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


@dataclass(frozen=True)
class ExperiencePlan:
    """One experience.

    Args:
        classes: the data set's classes in it, in the order of their targets.
        first_id: class c of the data set is class ``first_id + c`` of the benchmark.
        pixel_order: ``(n_pixels,)`` for permuted images.
        degrees: by which images are turned counter-clockwise.
    """

    classes: Sequence[int]
    first_id: int = 0
    pixel_order: Tensor | None = None
    degrees: float = 0.0

    @property
    def class_ids(self) -> list[int]:
        return [self.first_id + label for label in self.classes]


def assemble(
    name: str, images: Images, plans: Sequence[ExperiencePlan], options: ImageOptions
) -> Benchmark:
    """Build the streams.

    Samples stand in the order of Avalanche's own ``nc_benchmark``, so that a strategy
    sees the same batches on both: class by class, ascending within each. Experiences
    share images, unless these are turned: then each has its own.

    Args:
        plans: one per experience, all with equally many classes.
    """
    pixels = torch.cat([images.train_images, images.test_images])
    labels = torch.cat([images.train_labels, images.test_labels])
    streams = _choose(images, plans, options)
    targets = {
        stream: [
            _targets(plan, labels[rows], options.incremental)
            for plan, rows in zip(plans, parts)
        ]
        for stream, parts in streams.items()
    }
    pixels = pad_images(pixels, options.pad)
    if any(plan.degrees for plan in plans):
        turned = [
            rotate_images(pixels[rows], plan.degrees)
            for parts in streams.values()
            for plan, rows in zip(plans, parts)
        ]
        pixels = torch.cat(turned)
        own = iter(torch.arange(len(pixels)).split([len(part) for part in turned]))
        streams = {stream: [next(own) for _ in plans] for stream in streams}
    _, height, width = pixels.shape
    scale = scaling(options.normalize, images.mean, images.std)
    orders = [plan.pixel_order for plan in plans if plan.pixel_order is not None]
    store = Store(
        pixels.flatten(1).to(options.device),
        (1, height, width),
        scale,
        torch.stack(orders).to(options.device) if orders else None,
    )
    by_task = options.incremental == "task"
    datasets = {
        stream: [
            rows_dataset(
                store,
                rows,
                targets[stream][k],
                order=k if orders else 0,
                task_label=k if by_task else 0,
            )
            for k, rows in enumerate(parts)
        ]
        for stream, parts in streams.items()
    }
    scenario = benchmark_from_datasets(**datasets)
    scenario = with_task_labels(with_classes_timeline(scenario))
    for experiences in scenario.streams.values():
        for experience in experiences:
            for classes in _CLASS_LISTS:
                setattr(experience, classes, sorted(getattr(experience, classes)))
    n_classes = len(plans[0].classes)
    last_class = max(max(plan.class_ids) for plan in plans)
    info = BenchmarkInfo(
        name=name,
        dataset=images.name,
        incremental=options.incremental,
        n_experiences=len(plans),
        n_outputs=last_class + 1 if options.incremental == "class" else n_classes,
        in_features=height * width,
        image_shape=store.shape,
        input_range=scale.input_range,
        head="multi" if by_task else "single",
        classes_per_experience=n_classes,
        experience_classes=tuple(tuple(plan.classes) for plan in plans),
        class_names=images.class_names,
    )
    return Benchmark(list(scenario.streams.values()), info)


def _choose(
    images: Images, plans: Sequence[ExperiencePlan], options: ImageOptions
) -> dict[str, list[Tensor]]:
    """Decide which image is in which experience of which stream.

    Returns: by stream, a tensor of rows per experience; rows of test images follow those
        of training images.
    """
    n_train = len(images.train_labels)
    labels = torch.cat([images.train_labels, images.test_labels])
    streams: dict[str, list[Tensor]] = {"train": [], "test": []}
    for k, plan in enumerate(plans):
        seed = [options.seed, k]
        # the order in which Avalanche's generators meet these classes: that of a set
        classes = [label - plan.first_id for label in set(plan.class_ids)]
        rows = {
            "train": rows_by_class(images.train_labels, classes),
            "test": rows_by_class(images.test_labels, classes) + n_train,
        }
        if options.validation > 0:
            train = rows["train"]
            held_out = hold_out(labels[train], options.validation, seed)
            rows |= {"train": train[~held_out], "validation": train[held_out]}
        rows["train"] = cap(rows["train"], labels, options.train_samples, seed)
        rows["test"] = cap(rows["test"], labels, options.test_samples, seed)
        for stream, chosen in rows.items():
            if len(chosen) == 0:
                raise ValueError(
                    f"validation={options.validation!r} leaves experience {k} of the "
                    f"{stream} stream without images: bring it nearer to 0.5"
                )
            streams.setdefault(stream, []).append(chosen)
    return streams


def _targets(plan: ExperiencePlan, labels: Tensor, incremental: str) -> Tensor:
    if incremental == "class":
        return labels + plan.first_id
    position = torch.full((max(plan.classes) + 1,), -1)
    position[torch.tensor(plan.classes)] = torch.arange(len(plan.classes))
    return position[labels]
