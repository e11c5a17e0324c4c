"""Benchmarks of one's own data: arrays, torch data sets, any Avalanche benchmark."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks import (
    CLScenario,
    with_classes_timeline,
    with_task_labels,
)
from torch import Tensor
from torch.utils.data import Dataset

from kancl.benchmarks.benchmark import Benchmark, BenchmarkInfo
from kancl.benchmarks.plans import (
    Classes,
    ClassOrder,
    ExperiencePlan,
    Incremental,
    StreamOptions,
    split,
)
from kancl.benchmarks.streams import assemble
from kancl.data.arrays import Arrays, Channels, checked_arrays
from kancl.data.checks import check_choice
from kancl.data.rows import as_tensors
from kancl.data.scaling import Normalize

SAMPLES = 2_000
"""Samples of each experience of a stock benchmark that its range of values is taken of."""


def from_arrays(
    x_train: np.ndarray | Tensor,
    y_train: np.ndarray | Tensor,
    x_test: np.ndarray | Tensor,
    y_test: np.ndarray | Tensor,
    *,
    experiences: int | Classes = 5,
    incremental: Incremental = "class",
    normalize: Normalize = "none",
    class_order: ClassOrder = "fixed",
    channels: Channels | None = None,
    class_names: Sequence[str] | None = None,
    name: str = "arrays",
    **options: Any,
) -> Benchmark:
    """A benchmark of one's own arrays, split by classes.

    Args:
        x_train, x_test: ``(n, features)``, grey images ``(n, height, width)``, or images
            with ``channels``; uint8 is taken for bytes of pixels, 0 to 255, other numbers
            become float32.
        y_train, y_test: classes, ``(n,)``, whole numbers from 0.
        experiences: how many, with equally many classes each; or the classes of each,
            such as ``[[0, 1, 2], [3, 4], [5, 6]]``, as places in the class order. They
            may be repeated and overlap.
        class_order: ``fixed``, ``random`` (by ``seed``), or a list of all classes.
        channels: where those of images stand: ``first``: ``(n, channels, height, width)``;
            ``last``: ``(n, height, width, channels)``. Images without have none.
        class_names: in the order of the labels.
        name: of the benchmark.
        incremental, normalize, options: ``"class"``, ``"domain"`` or ``"task"``;
            ``"none"``, ``"unit"`` or ``"standard"``; ``validation=0.1``, ``seed=3`` and
            so on, the fields of :class:`kancl.benchmarks.plans.StreamOptions`.
    Raises: ValueError naming the array or option that is at fault.

    Example::

        x, y = np.random.rand(600, 20), np.arange(600) % 7
        benchmark = from_arrays(x, y, x, y, experiences=[[0, 1, 2], [3, 4], [5, 6]])
    """
    checked = _checked(options, incremental, normalize)
    data = checked_arrays(
        x_train, y_train, x_test, y_test, channels=channels, class_names=class_names
    )
    return assemble(
        name, data, _split(data, experiences, class_order, checked), checked
    )


def from_datasets(
    train: Dataset | Sequence[Dataset],
    test: Dataset | Sequence[Dataset],
    *,
    experiences: int | Classes | None = None,
    incremental: Incremental = "class",
    normalize: Normalize = "none",
    class_order: ClassOrder = "fixed",
    channels: Channels | None = None,
    class_names: Sequence[str] | None = None,
    name: str = "datasets",
    **options: Any,
) -> Benchmark:
    """A benchmark of torch data sets of ``(x, class)``: one split by classes, or several.

    Of lists, each data set is an experience: with ``incremental="domain"`` the same
    classes in other circumstances, with ``"class"`` or ``"task"`` the classes it has.
    Each sample is read once, while building: a random transform is drawn once.

    Args:
        train, test: data sets with a length, or equally long lists of them. Samples are
            tensors, arrays, numbers or PIL images (mode L or RGB).
        experiences: of one data set, as in :func:`from_arrays`; default: 5.
        channels: of tensors and arrays, as in :func:`from_arrays`; PIL images know theirs.

    The other arguments are those of :func:`from_arrays`.

    Raises: ValueError naming the data set or option that is at fault.
    """
    checked = _checked(options, incremental, normalize)
    several = isinstance(train, (list, tuple))
    if several != isinstance(test, (list, tuple)):
        raise ValueError("train and test must both be data sets, or both lists of them")
    trains, tests = map(_listed, (train, test))
    n_train, n_test = len(trains), len(tests)
    if n_train != n_test or not trains:
        raise ValueError(
            f"train lists {n_train} and test {n_test} data sets: give one of each per "
            "experience"
        )
    if several and not (experiences is None and class_order == "fixed"):
        raise ValueError(
            "in lists each data set is an experience: leave experiences and class_order "
            "out, or concatenate the data sets"
        )
    x_train, y_train, train_parts, of_train = _stacked(trains, "train")
    x_test, y_test, test_parts, of_test = _stacked(tests, "test")
    data = checked_arrays(
        *(x_train, y_train, x_test, y_test),
        channels=of_train or of_test or channels,
        class_names=class_names,
        name=name,
    )
    if not several:
        return assemble(
            name, data, _split(data, experiences, class_order, checked), checked
        )
    plans = []
    for k in range(n_train):
        classes = sorted({*y_train[train_parts == k].tolist()})
        if unknown := {*y_test[test_parts == k].tolist()}.difference(classes):
            raise ValueError(
                f"class {min(unknown)} is in test[{k}] but not in train[{k}]: an "
                "experience is tested on what it trained"
            )
        if checked.incremental == "domain":
            classes = list(range(len(data.class_names)))
        plans.append(ExperiencePlan(classes, part=k))
    data = replace(
        data,
        train_parts=torch.from_numpy(train_parts),
        test_parts=torch.from_numpy(test_parts),
    )
    return assemble(name, data, plans, checked)


def from_avalanche(
    benchmark: CLScenario,
    *,
    name: str = "avalanche",
    dataset: str = "own",
    input_range: tuple[float, float] | None = None,
    class_names: Sequence[str] | None = None,
) -> Any:
    """Any stock Avalanche benchmark of labelled samples, described for kancl's runs.

    Streams, experiences and data stay as they are; ``benchmark.info`` is added. One that
    has it is returned as it is.

    Args:
        benchmark: with a train and a test stream of equally many experiences, such as
            ``nc_benchmark(...)`` gives; samples are tensors.
        name, dataset: for tables and folders.
        input_range: lowest and highest value of an input, for a KAN's grid; None: of the
            training samples, of up to 2,000 in each experience.
        class_names: in the order of the labels; None: the numbers.
    Returns: the benchmark itself; one without timelines of classes and task labels gets
        these in a new one.
    Raises: ValueError for streams or samples that a network of kancl cannot take.
    """
    if hasattr(benchmark, "info"):
        return benchmark
    lacking = {"train", "test"} - benchmark.streams.keys()
    if lacking:
        raise ValueError(f"the benchmark has no {min(lacking)} stream")
    for experience in (*benchmark.train_stream, *benchmark.test_stream):
        for needed in ("targets", "targets_task_labels"):
            if not hasattr(experience.dataset, needed):
                raise ValueError(
                    f"data sets of the benchmark have no {needed}: give them classes and "
                    "task labels, or hand them to from_datasets"
                )
    if not hasattr(benchmark.train_stream[0], "classes_in_this_experience"):
        benchmark = with_task_labels(with_classes_timeline(benchmark))
    train, test = (list(benchmark.streams[key]) for key in ("train", "test"))
    if len(train) != len(test):
        raise ValueError(
            f"the benchmark has {len(train)} training and {len(test)} test experiences: "
            "each needs a test of its own"
        )
    ranges, shapes = [], set()
    for experience in (*train, *test):
        sample = experience.dataset[0][0]
        if not isinstance(sample, Tensor) or not sample.is_floating_point():
            raise ValueError(
                f"samples of the benchmark are {type(sample).__name__}, not tensors of "
                "floats: give it a transform such as torchvision's ToTensor()"
            )
        shapes.add(tuple(sample.shape))
    if len(shapes) > 1:
        raise ValueError(f"samples of the benchmark differ in shape: {sorted(shapes)}")
    if input_range is None:
        with torch.random.fork_rng(devices=[]):  # a transform may draw
            for experience in train:
                x, _, _ = as_tensors(experience.dataset, SAMPLES)
                ranges += [x.min().item(), x.max().item()]
        input_range = min(ranges), max(ranges)
    classes = [tuple(sorted(e.classes_in_this_experience)) for e in train]
    n_classes = max(max(group) for group in classes) + 1
    by_task = len({label for e in train for label in e.task_labels}) > 1
    one_domain = len(train) > 1 and len({*classes}) == 1
    (shape,) = shapes
    benchmark.info = BenchmarkInfo(
        name=name,
        dataset=dataset,
        incremental="task" if by_task else "domain" if one_domain else "class",
        n_experiences=len(train),
        n_outputs=n_classes,
        in_features=math.prod(shape),
        image_shape=shape,
        input_range=input_range,
        head="multi" if by_task else "single",
        experience_classes=tuple(classes),
        class_names=tuple(map(str, class_names or range(n_classes))),
    )
    return benchmark


def _checked(
    options: Mapping[str, Any], incremental: Incremental, normalize: Normalize
) -> StreamOptions:
    names = {field.name for field in fields(StreamOptions)} - {"n_experiences"}
    for name in options:
        check_choice("option", name, sorted({*names, "experiences"}))
    return StreamOptions(
        n_experiences=None, incremental=incremental, normalize=normalize, **options
    )


def _split(
    data: Arrays,
    experiences: int | Classes | None,
    order: ClassOrder,
    options: StreamOptions,
) -> list[ExperiencePlan]:
    n_classes = len(data.class_names)
    if experiences is None or isinstance(experiences, (int, float)):
        options = replace(options, n_experiences=experiences)
        return split(options, n_classes, class_order=order)
    return split(options, n_classes, class_order=order, classes=experiences)


def _listed(datasets: Dataset | Sequence[Dataset]) -> Sequence[Any]:
    return datasets if isinstance(datasets, (list, tuple)) else [datasets]


def _stacked(
    datasets: Sequence[Any], key: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Channels | None]:
    """All samples, labels, the number of each one's data set; where channels stand."""
    x: list[np.ndarray] = []
    y: list[np.ndarray] = []
    parts: list[int] = []
    kinds: set[Channels | None] = set()
    for k, dataset in enumerate(datasets):
        where = f"{key}[{k}]" if len(datasets) > 1 else key
        if not hasattr(dataset, "__len__") or len(dataset) == 0:
            raise ValueError(f"{where} is empty or has no length: give it samples")
        for i in range(len(dataset)):
            try:
                value, label, *_ = dataset[i]
                label = np.asarray(label)
                array = np.asarray(value)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"sample {i} of {where} is no pair of numbers and a class: {error}"
                ) from None
            if x and (array.shape, array.dtype) != (x[0].shape, x[0].dtype):
                raise ValueError(
                    f"sample {i} of {where} is {array.shape} {array.dtype}, and the first "
                    f"of {key} {x[0].shape} {x[0].dtype}: they must be alike"
                )
            if label.ndim:
                raise ValueError(f"the label of sample {i} of {where} is not one class")
            is_coloured = hasattr(value, "getbands") and array.ndim == 3
            kinds.add("last" if is_coloured else None)
            x.append(array)
            y.append(label)
            parts.append(k)
    kind, *more = kinds
    if more:
        raise ValueError(f"{key} mixes PIL images with arrays: use one of them")
    return np.stack(x), np.stack(y), np.array(parts), kind
