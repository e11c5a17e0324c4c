"""The scenarios by name in ``SCENARIOS``, and those of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from kancl.benchmarks.gaussian_peaks import gaussian_peaks
from kancl.benchmarks.image_benchmark import Benchmark, ExperiencePlan, assemble
from kancl.benchmarks.options import (
    ClassOrder,
    Dataset,
    ImageOptions,
    Incremental,
    Normalize,
    check_choice,
    check_count,
)
from kancl.benchmarks.selection import class_order as draw_class_order
from kancl.benchmarks.selection import pixel_order
from kancl.data.images import load_images

_N_CLASSES = 10  # of every data set here
_SIDE = 28  # pixels


def split_mnist(
    *,
    dataset: Dataset = "mnist",
    data_dir: str | None = None,
    n_experiences: int = 5,
    n_classes: int = 10,
    incremental: Incremental = "class",
    class_order: ClassOrder = "fixed",
    normalize: Normalize = "none",
    pad: int = 0,
    validation: float = 0.0,
    train_samples: int | None = None,
    test_samples: int | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Benchmark:
    """Split MNIST: each experience brings some of the ten classes.

    Targets are the classes themselves if class-incremental; otherwise the position of a
    class among those of its experience.

    Args:
        class_order: ``fixed``: experience 0 has classes 0, 1...; ``random``: dealt out
            by ``seed``.
        n_classes: so many of that order alone.

    The other options are those of :class:`~kancl.benchmarks.options.ImageOptions`.

    Raises: ValueError if a value is out of range, or the classes cannot be dealt out
        evenly.
    Source: Zenke, Poole, Ganguli 2017, arXiv:1703.04200; van de Ven and Tolias 2019,
        arXiv:1904.07734, for the three kinds of incremental learning.
    """
    options = ImageOptions(
        dataset=dataset,
        data_dir=data_dir,
        incremental=incremental,
        n_experiences=n_experiences,
        normalize=normalize,
        pad=pad,
        validation=validation,
        train_samples=train_samples,
        test_samples=test_samples,
        seed=seed,
        device=device,
    )
    check_choice("class_order", class_order, ClassOrder)
    check_count("n_classes", n_classes, 1)
    if n_classes > _N_CLASSES:
        raise ValueError(
            f"n_classes={n_classes} is more than the {_N_CLASSES} there are"
        )
    if n_classes % n_experiences:
        even = [n for n in range(1, n_classes + 1) if n_classes % n == 0]
        raise ValueError(
            f"n_experiences={n_experiences} cannot share out {n_classes} classes evenly; "
            f"expected one of {even}"
        )
    width = n_classes // n_experiences
    classes = draw_class_order(class_order, _N_CLASSES, seed)[:n_classes]
    plans = [
        ExperiencePlan(classes[first : first + width])
        for first in range(0, n_classes, width)
    ]
    return assemble("split_mnist", load_images(dataset, data_dir), plans, options)


def permuted_mnist(
    *,
    dataset: Dataset = "mnist",
    data_dir: str | None = None,
    n_experiences: int = 10,
    incremental: Incremental = "domain",
    permute_first: bool = False,
    normalize: Normalize = "none",
    pad: int = 0,
    validation: float = 0.0,
    train_samples: int | None = None,
    test_samples: int | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Benchmark:
    """Permuted MNIST: all classes in each experience, its pixels in an order of its own.

    Padding comes before permuting. The order of an experience depends on ``seed`` and its
    number only. Class-incremental: class c of experience k is class ``10 k + c``.

    Args:
        permute_first: permute experience 0 too, instead of leaving it as it is.

    The other options are those of :class:`~kancl.benchmarks.options.ImageOptions`.

    Raises: ValueError if a value is out of range.
    Source: Goodfellow et al. 2013, arXiv:1312.6211; van de Ven and Tolias 2018,
        arXiv:1809.10635 (there: ``pad=2``, ``permute_first=True``).
    """
    options = ImageOptions(
        dataset=dataset,
        data_dir=data_dir,
        incremental=incremental,
        n_experiences=n_experiences,
        normalize=normalize,
        pad=pad,
        validation=validation,
        train_samples=train_samples,
        test_samples=test_samples,
        seed=seed,
        device=device,
    )
    n_pixels = (_SIDE + 2 * pad) ** 2
    plans = []
    for k in range(n_experiences):
        order = pixel_order(seed, k, n_pixels)
        if k == 0 and not permute_first:
            order = torch.arange(n_pixels)
        plans.append(ExperiencePlan(range(_N_CLASSES), _N_CLASSES * k, order))
    return assemble("permuted_mnist", load_images(dataset, data_dir), plans, options)


def rotated_mnist(
    *,
    dataset: Dataset = "mnist",
    data_dir: str | None = None,
    n_experiences: int = 5,
    incremental: Incremental = "domain",
    max_angle: float = 180.0,
    angles: Sequence[float] | None = None,
    normalize: Normalize = "none",
    pad: int = 0,
    validation: float = 0.0,
    train_samples: int | None = None,
    test_samples: int | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Benchmark:
    """Rotated MNIST: all classes in each experience, its images turned by one angle.

    Turned once, while building (55 MB per experience), counter-clockwise, bilinear,
    after padding. Class-incremental: class c of experience k is class ``10 k + c``.

    Args:
        max_angle: experiences are turned by equal steps from 0 to this many degrees.
        angles: degrees for each experience, instead of equal steps.

    The other options are those of :class:`~kancl.benchmarks.options.ImageOptions`.

    Raises: ValueError if a value is out of range, or ``angles`` are not one for each
        experience.
    Source: Lopez-Paz and Ranzato 2017, arXiv:1706.08840 (random angles there).
    """
    options = ImageOptions(
        dataset=dataset,
        data_dir=data_dir,
        incremental=incremental,
        n_experiences=n_experiences,
        normalize=normalize,
        pad=pad,
        validation=validation,
        train_samples=train_samples,
        test_samples=test_samples,
        seed=seed,
        device=device,
    )
    if not -360 <= max_angle <= 360:
        raise ValueError(
            f"max_angle={max_angle!r} must lie between -360 and 360 degrees"
        )
    if angles is None:
        steps = max(n_experiences - 1, 1)
        angles = [max_angle * k / steps for k in range(n_experiences)]
    elif len(angles) != n_experiences:
        raise ValueError(
            f"angles={list(angles)} gives {len(angles)} angles for n_experiences="
            f"{n_experiences}: give one for each"
        )
    plans = [
        ExperiencePlan(range(_N_CLASSES), _N_CLASSES * k, degrees=float(angle))
        for k, angle in enumerate(angles)
    ]
    return assemble("rotated_mnist", load_images(dataset, data_dir), plans, options)


def joint_mnist(
    *,
    dataset: Dataset = "mnist",
    data_dir: str | None = None,
    normalize: Normalize = "none",
    pad: int = 0,
    validation: float = 0.0,
    train_samples: int | None = None,
    test_samples: int | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Benchmark:
    """Joint MNIST: all ten classes in one experience.

    The options are those of :class:`~kancl.benchmarks.options.ImageOptions`.

    Raises: ValueError if a value is out of range.
    """
    options = ImageOptions(
        dataset=dataset,
        data_dir=data_dir,
        normalize=normalize,
        pad=pad,
        validation=validation,
        train_samples=train_samples,
        test_samples=test_samples,
        seed=seed,
        device=device,
    )
    plans = [ExperiencePlan(range(_N_CLASSES))]
    return assemble("mnist", load_images(dataset, data_dir), plans, options)


SCENARIOS: dict[str, Callable[..., Benchmark]] = {
    "split_mnist": split_mnist,
    "permuted_mnist": permuted_mnist,
    "rotated_mnist": rotated_mnist,
    "mnist": joint_mnist,
    "gaussian_peaks": gaussian_peaks,
}
