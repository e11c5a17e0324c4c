"""Avalanche benchmarks over images in memory, assembled from plans of experiences."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

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

from kancl.data.checks import check_choice, check_count
from kancl.data.images import Images, pad_images, rotate_images, scaling
from kancl.data.rows import Store, rows_dataset
from kancl.metrics.score_matrix import ACCURACY, RMSE, Score

Dataset = Literal["mnist", "fashion_mnist", "kmnist"]
Incremental = Literal["class", "domain", "task"]
Normalize = Literal["none", "unit", "standard"]

# sets from Avalanche; its own MultiHeadClassifier needs lists
_CLASS_LISTS = (
    *("classes_in_this_experience", "previous_classes"),
    *("classes_seen_so_far", "future_classes"),
)


@dataclass(frozen=True)
class BenchmarkInfo:
    """What a model, a strategy and a report need to know of a benchmark."""

    name: str
    dataset: str
    incremental: str
    n_experiences: int
    n_outputs: int  # of a single head, or of each of a task-incremental benchmark's
    in_features: int
    image_shape: tuple[int, ...]  # (1, height, width); of a regression (in_features,)
    input_range: tuple[float, float]  # values of a black and of a white pixel
    head: str  # "multi" for task-incremental benchmarks, otherwise "single"
    classes_per_experience: int
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
    Experiences carry ``benchmark``, ``classes_in_this_experience`` and ``task_labels``:
    the experience's number in task-incremental benchmarks, otherwise 0. Properties are
    named as in Avalanche's classic benchmarks.
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


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """The options that all image scenarios share, checked before any data are read.

    Args:
        dataset: which images.
        data_dir: folder in torchvision's layout; None: the MNIST in this package.
        n_experiences: length of the streams.
        incremental: ``class``: tell all classes apart, without being told the experience;
            ``domain``: the same outputs in every experience; ``task``: told the
            experience (task label), outputs of its own for each.
        normalize: pixels as ``none``: [0, 1]; ``unit``: [-1, 1]; ``standard``: minus the
            data set's mean, divided by its standard deviation.
        pad: black pixels added on each side.
        validation: share of the training images, of each class in every experience, that
            makes the validation stream instead.
        train_samples, test_samples: at most so many per experience, classes in
            proportion.
        seed: decides everything that is drawn while building.
        device: where the images live.
    Raises: ValueError for a value out of range, naming it.
    """

    dataset: Dataset = "mnist"
    data_dir: str | Path | None = None
    n_experiences: int = 1
    incremental: Incremental = "class"
    normalize: Normalize = "none"
    pad: int = 0
    validation: float = 0.0
    train_samples: int | None = None
    test_samples: int | None = None
    seed: int = 0
    device: str | torch.device = "cpu"

    def __post_init__(self) -> None:
        check_choice("dataset", self.dataset, get_args(Dataset))
        check_choice("incremental", self.incremental, get_args(Incremental))
        check_choice("normalize", self.normalize, get_args(Normalize))
        check_count("n_experiences", self.n_experiences, 1)
        check_count("pad", self.pad, 0)
        check_count("seed", self.seed, 0)
        for name in ("train_samples", "test_samples"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name), 1)
        if not 0 <= self.validation < 1:
            raise ValueError(
                f"validation={self.validation!r} must be a share of the training "
                "images, 0 or more and below 1"
            )
        try:
            torch.device(self.device)
        except RuntimeError:
            raise ValueError(
                f"device={self.device!r} is not a device; expected cpu, cuda or cuda:1"
            ) from None


@dataclass(frozen=True)
class ExperiencePlan:
    """What one experience consists of."""

    classes: Sequence[int]  # of the data set, in the order of their targets
    first_id: int = 0  # class c of the data set is class first_id + c here
    pixel_order: Tensor | None = None  # (n_pixels,), for permuted images
    degrees: float = 0.0  # by which images are turned counter-clockwise

    @property
    def class_ids(self) -> list[int]:
        return [self.first_id + label for label in self.classes]

    def targets(self, labels: Tensor, incremental: str) -> Tensor:
        if incremental == "class":
            return labels + self.first_id
        position = torch.full((max(self.classes) + 1,), -1)
        position[torch.tensor(self.classes)] = torch.arange(len(self.classes))
        return position[labels]


def assemble(
    name: str, images: Images, plans: Sequence[ExperiencePlan], options: ImageOptions
) -> Benchmark:
    """Build the streams, of experiences with equally many classes.

    Samples stand in the order of Avalanche's own ``nc_benchmark``, so that a strategy
    sees the same batches on both: class by class, ascending within each. Experiences
    share images, unless these are turned: then each has its own.
    """
    labels = torch.cat([images.train_labels, images.test_labels])
    streams = _choose(images, plans, options)
    targets = {
        stream: [p.targets(labels[r], options.incremental) for p, r in zip(plans, rows)]
        for stream, rows in streams.items()
    }
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
    shape = (1, *pixels.shape[1:])
    scale = scaling(options.normalize, images.source)
    orders = [plan.pixel_order for plan in plans if plan.pixel_order is not None]
    all_orders = torch.stack(orders).to(options.device) if orders else None
    store = Store(pixels.flatten(1).to(options.device), shape, scale, all_orders)
    by_task = options.incremental == "task"
    datasets = {
        stream: [
            rows_dataset(store, r, y, order=k * bool(orders), task_label=k * by_task)
            for k, (r, y) in enumerate(zip(rows, targets[stream]))
        ]
        for stream, rows in streams.items()
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
        in_features=store.values.shape[1],
        image_shape=shape,
        input_range=scale.input_range,
        head="multi" if by_task else "single",
        classes_per_experience=n_classes,
        experience_classes=tuple(tuple(plan.classes) for plan in plans),
        class_names=images.source.class_names,
    )
    return Benchmark(list(scenario.streams.values()), info)


# Every draw has its own generator, seeded by what it is for: torch's global generator is
# never touched, and a draw does not depend on how many others there are.
CLASS_ORDER, PIXEL_ORDER, VALIDATION, CAP = range(4)


def _choose(
    images: Images, plans: Sequence[ExperiencePlan], options: ImageOptions
) -> dict[str, list[Tensor]]:
    """By stream, a tensor of rows per experience; test images follow training images."""
    n_train = len(images.train_labels)
    labels = torch.cat([images.train_labels, images.test_labels])
    streams: dict[str, list[Tensor]] = {}
    for k, plan in enumerate(plans):
        seed = [options.seed, k]
        # the order in which Avalanche's generators meet these classes: that of a set
        classes = [label - plan.first_id for label in set(plan.class_ids)]
        by_class = torch.cat([(labels == c).nonzero().flatten() for c in classes])
        in_train = by_class < n_train
        rows = {"train": by_class[in_train], "test": by_class[~in_train]}
        if options.validation > 0:
            train = rows["train"]
            n_held_out = round(options.validation * len(train))
            held_out = _stratified(labels[train], n_held_out, [VALIDATION, *seed])
            rows |= {"train": train[~held_out], "validation": train[held_out]}
        limits = {"train": options.train_samples, "test": options.test_samples}
        for stream, limit in limits.items():
            part = rows[stream]
            if limit is not None and limit < len(part):
                rows[stream] = part[_stratified(labels[part], limit, [CAP, *seed])]
        for stream, chosen in rows.items():
            if len(chosen) == 0:
                raise ValueError(
                    f"validation={options.validation!r} leaves experience {k} of the "
                    f"{stream} stream without images: bring it nearer to 0.5"
                )
            streams.setdefault(stream, []).append(chosen)
    return streams


def pixel_order(seed: int, experience: int, n_pixels: int) -> Tensor:
    """The permutation of one experience; the same for any number of experiences."""
    generator = np.random.default_rng([PIXEL_ORDER, seed, experience])
    return torch.from_numpy(generator.permutation(n_pixels))


def _stratified(labels: Tensor, n: int, seed: list[int]) -> Tensor:
    """A mask, True ``n`` times: classes in proportion, rounded by largest remainder."""
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
