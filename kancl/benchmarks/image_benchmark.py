"""Avalanche benchmarks over images in memory.

A scenario says what its experiences consist of (:class:`ExperiencePlan`); ``assemble``
makes train, test and validation streams of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
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
from kancl.data.images import Images
from kancl.data.pixels import pad_images, rotate_images, scaling
from kancl.data.rows import Store, rows_dataset
from kancl.metrics.score_matrix import ACCURACY, RMSE, Score

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
    streams, targets = _choose(images, plans, options)
    pixels = torch.cat([images.train_images, images.test_images])
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
    scale = scaling(options.normalize, images.source.mean, images.source.std)
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
        class_names=images.source.class_names,
    )
    return Benchmark(list(scenario.streams.values()), info)


def _choose(
    images: Images, plans: Sequence[ExperiencePlan], options: ImageOptions
) -> tuple[dict[str, list[Tensor]], dict[str, list[Tensor]]]:
    """Decide which image is in which experience of which stream.

    Returns: by stream, a tensor of rows per experience, and the targets of these rows;
        rows of test images follow those of training images.
    """
    n_train = len(images.train_labels)
    labels = torch.cat([images.train_labels, images.test_labels])
    names = ["train", "test"] + ["validation"] * (options.validation > 0)
    streams: dict[str, list[Tensor]] = {name: [] for name in names}
    targets: dict[str, list[Tensor]] = {name: [] for name in names}
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
            streams[stream].append(chosen)
            targets[stream].append(_targets(plan, labels[chosen], options.incremental))
    return streams, targets


def _targets(plan: ExperiencePlan, labels: Tensor, incremental: str) -> Tensor:
    if incremental == "class":
        return labels + plan.first_id
    position = torch.full((max(plan.classes) + 1,), -1)
    position[torch.tensor(plan.classes)] = torch.arange(len(plan.classes))
    return position[labels]


# Every draw has its own generator, seeded by what it is for: torch's global generator is
# never touched, and a draw does not depend on how many others there are.
_CLASS_ORDER, _PIXEL_ORDER, _VALIDATION, _CAP = range(4)


def class_order(kind: str, n_classes: int, seed: int) -> list[int]:
    """``fixed``: 0, 1, 2...; ``random``: shuffled by ``seed``."""
    if kind == "fixed":
        return list(range(n_classes))
    return np.random.default_rng([_CLASS_ORDER, seed]).permutation(n_classes).tolist()


def pixel_order(seed: int, experience: int, n_pixels: int) -> Tensor:
    """The permutation of one experience; the same for any number of experiences."""
    generator = np.random.default_rng([_PIXEL_ORDER, seed, experience])
    return torch.from_numpy(generator.permutation(n_pixels))


def rows_by_class(labels: Tensor, classes: Iterable[int]) -> Tensor:
    """Positions of the labels ``classes``: class by class, ascending within each."""
    rows = [torch.nonzero(labels == label).flatten() for label in classes]
    return torch.cat(rows)


def hold_out(labels: Tensor, share: float, seed: list[int]) -> Tensor:
    """A mask over ``labels``: True for a random ``share`` of every class."""
    return _stratified(labels, round(share * len(labels)), [_VALIDATION, *seed])


def cap(rows: Tensor, labels: Tensor, limit: int | None, seed: list[int]) -> Tensor:
    """At most ``limit`` of ``rows``, random, all classes kept in proportion."""
    if limit is None or limit >= len(rows):
        return rows
    return rows[_stratified(labels[rows], limit, [_CAP, *seed])]


def _stratified(labels: Tensor, n: int, seed: list[int]) -> Tensor:
    """A mask that is True ``n`` times, for each class in proportion to its number.

    Shares are rounded by largest remainder.
    """
    classes, counts = (part.numpy() for part in labels.unique(return_counts=True))
    exact = counts * (n / len(labels))
    quotas = np.floor(exact + 1e-9).astype(int)
    by_remainder = np.argsort(quotas - exact, kind="stable")
    quotas[by_remainder[: n - quotas.sum()]] += 1
    generator = np.random.default_rng(seed)
    mask = torch.zeros(len(labels), dtype=torch.bool)
    for label, quota in zip(classes.tolist(), quotas.tolist()):
        members = torch.nonzero(labels == label).flatten()
        chosen = generator.permutation(len(members))[:quota]
        mask[members[torch.from_numpy(chosen)]] = True
    return mask
