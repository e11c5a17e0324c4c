"""Avalanche benchmarks over arrays in memory, from plans of experiences."""

import itertools
import math
from collections.abc import Sequence

import torch
from avalanche.benchmarks import (
    benchmark_from_datasets,
    with_classes_timeline,
    with_task_labels,
)

from kancl.benchmarks.benchmark import Benchmark, BenchmarkInfo
from kancl.benchmarks.plans import (
    ExperiencePlan,
    StreamOptions,
    blurred,
    choose,
    online,
    turned,
)
from kancl.data.arrays import Arrays
from kancl.data.checks import check_memory
from kancl.data.images import pad_images
from kancl.data.rows import Store, StoredSamples, rows_dataset
from kancl.data.scaling import scaling

# sets from Avalanche; its own MultiHeadClassifier needs lists
_CLASS_LISTS = (
    *("classes_in_this_experience", "previous_classes"),
    *("classes_seen_so_far", "future_classes"),
)


def assemble(
    name: str,
    arrays: Arrays,
    plans: Sequence[ExperiencePlan],
    options: StreamOptions,
    pad: int = 0,
) -> Benchmark:
    """Build the streams.

    Samples stand in the order of Avalanche's own ``nc_benchmark``, so that a strategy
    sees the same batches on both: class by class, ascending within each. Experiences
    share inputs, unless these are turned: then each has its own.

    Args:
        pad: black pixels added on each side of images of bytes.
    Raises: ValueError for a plan or option that these data cannot follow.
    """
    _check_plans(plans, len(arrays.class_names), options.incremental)
    if pad:
        channels, *sides = arrays.shape
        n_samples = len(arrays.train_x) + len(arrays.test_x)
        n_pixels = math.prod(side + 2 * pad for side in sides)
        check_memory(f"pad={pad}", n_samples * channels * n_pixels)
    streams = blurred(choose(arrays, plans, options), options)
    x = pad_images(torch.cat([arrays.train_x, arrays.test_x]), pad)
    if any(plan.degrees for plan in plans):
        x, streams = turned(x, streams, plans)
    streams = online(streams, options)
    shape = tuple(x.shape[1:])
    scale = scaling(options.normalize, arrays, shape)
    orders = [plan.order for plan in plans if plan.order is not None]
    store = Store(
        (x.flatten(1) if arrays.is_bytes else scale(x.flatten(1))).to(options.device),
        shape,
        scale.to(options.device) if arrays.is_bytes else None,
        torch.stack(orders).to(options.device) if orders else None,
    )
    by_task = options.incremental == "task"
    of_test = [pieces[0].plan for pieces in streams["test"]]
    datasets = {
        stream: [
            rows_dataset(
                [
                    StoredSamples(store, p.rows, p.targets, p.plan * bool(orders))
                    for p in pieces
                ],
                task_label=k * by_task,
            )
            for k, pieces in zip(of_test, experiences)
        ]
        for stream, experiences in streams.items()
    }
    scenario = benchmark_from_datasets(**datasets)
    scenario = with_task_labels(with_classes_timeline(scenario))
    for experience in itertools.chain(*scenario.streams.values()):
        for classes in _CLASS_LISTS:
            setattr(experience, classes, sorted(getattr(experience, classes)))
    if arrays.is_bytes:
        low, high = scale.byte_range
    else:
        low, high = (v.item() for v in store.values[: len(arrays.train_x)].aminmax())
    widest = max(len(plan.classes) for plan in plans)
    last_class = max(max(plan.class_ids) for plan in plans)
    info = BenchmarkInfo(
        name=name,
        dataset=arrays.name,
        incremental=options.incremental,
        n_experiences=len(of_test),
        n_outputs=last_class + 1 if options.incremental == "class" else widest,
        in_features=store.values.shape[1],
        image_shape=shape,
        input_range=(low, high),
        head="multi" if by_task else "single",
        experience_classes=tuple(tuple(plans[k].classes) for k in of_test),
        class_names=arrays.class_names,
        pixels_permuted=bool(orders),
    )
    return Benchmark(list(scenario.streams.values()), info)


def _check_plans(
    plans: Sequence[ExperiencePlan], n_classes: int, incremental: str
) -> None:
    """Raises: ValueError for classes that are not there, twice there, or ambiguous."""
    outputs: dict[int, tuple[int, int]] = {}  # by class: position, experience
    for k, plan in enumerate(plans, start=1):
        if not plan.classes:
            raise ValueError(f"experience {k} has no classes: give it some, or drop it")
        for position, label in enumerate(plan.classes):
            if not 0 <= label < n_classes:
                raise ValueError(
                    f"class {label} of experience {k} is not there: the data have the "
                    f"classes 0 to {n_classes - 1}"
                )
            if label in plan.classes[:position]:
                raise ValueError(f"experience {k} names class {label} twice")
            first, where = outputs.setdefault(label, (position, k))
            if first != position and incremental == "domain":
                raise ValueError(
                    f"class {label} would be output {first} in experience {where} and "
                    f"output {position} in experience {k}, which incremental=domain "
                    "cannot tell apart: keep its place, or use incremental=class or task"
                )
