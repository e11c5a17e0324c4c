"""The scenarios by name in ``SCENARIOS``, and those of images."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch

from kancl.benchmarks.gaussian_peaks import gaussian_peaks
from kancl.benchmarks.image_benchmark import (
    CLASS_ORDER,
    Benchmark,
    ExperiencePlan,
    ImageOptions,
    assemble,
    pixel_order,
)
from kancl.data.checks import check_choice, check_count
from kancl.data.images import load_images

ClassOrder = Literal["fixed", "random"]
Plan = Callable[..., Sequence[ExperiencePlan]]
Scenario = Callable[..., Benchmark]

_N_CLASSES = 10  # of every data set here
_SIDE = 28  # pixels


def image_scenario(name: str, **defaults: Any) -> Callable[[Plan], Scenario]:
    """Make a scenario of a function that plans experiences.

    Its keyword-only arguments are the fields of :class:`ImageOptions`, then those of the
    plan, which gets the options as its first argument. ``n_experiences`` and
    ``incremental`` are among them if their defaults are given.
    """

    def decorate(plan: Plan) -> Scenario:
        _, *own = inspect.signature(plan, eval_str=True).parameters.values()
        options = inspect.signature(ImageOptions, eval_str=True).parameters
        omitted = {"n_experiences", "incremental"} - defaults.keys()
        shared = {
            name: parameter.replace(default=defaults.get(name, parameter.default))
            for name, parameter in options.items()
            if name not in omitted
        }
        parameters = [*shared.values(), *own]
        signature = inspect.Signature(parameters, return_annotation=Benchmark)

        @functools.wraps(plan)
        def build(**given: Any) -> Benchmark:
            bound = signature.bind(**given)
            bound.apply_defaults()
            values = bound.arguments
            options = ImageOptions(**{name: values.pop(name) for name in shared})
            plans = plan(options, **values)
            images = load_images(options.dataset, options.data_dir)
            return assemble(name, images, plans, options)

        build.__signature__ = signature  # type: ignore[attr-defined]
        build.__annotations__ = {p.name: p.annotation for p in parameters}
        return build

    return decorate


@image_scenario("split_mnist", n_experiences=5, incremental="class")
def split_mnist(
    options: ImageOptions, *, n_classes: int = 10, class_order: ClassOrder = "fixed"
) -> list[ExperiencePlan]:
    """Split MNIST: each experience brings some of the ten classes.

    Targets are the classes themselves if class-incremental; otherwise the position of a
    class among those of its experience.

    Args:
        n_classes: use only so many classes, the first of the class order.
        class_order: ``fixed``: experience 0 has classes 0, 1...; ``random``: dealt out
            by ``seed``.

    The other options are those of :class:`kancl.benchmarks.image_benchmark.ImageOptions`.

    Source: Zenke, Poole, Ganguli 2017, arXiv:1703.04200; van de Ven and Tolias 2019,
        arXiv:1904.07734, for the three kinds of incremental learning.
    """
    n_experiences = options.n_experiences
    check_choice("class_order", class_order, get_args(ClassOrder))
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
    classes = list(range(_N_CLASSES))
    if class_order == "random":
        generator = np.random.default_rng([CLASS_ORDER, options.seed])
        classes = generator.permutation(_N_CLASSES).tolist()
    starts = range(0, n_classes, width)
    return [ExperiencePlan(classes[start : start + width]) for start in starts]


@image_scenario("permuted_mnist", n_experiences=10, incremental="domain")
def permuted_mnist(
    options: ImageOptions, *, permute_first: bool = False
) -> list[ExperiencePlan]:
    """Permuted MNIST: all classes in each experience, its pixels in an order of its own.

    Padding comes before permuting. The order of an experience depends on ``seed`` and its
    number only. Class-incremental: class c of experience k is class ``10 k + c``.

    Args:
        permute_first: permute experience 0 too, instead of leaving it as it is.

    The other options are those of :class:`kancl.benchmarks.image_benchmark.ImageOptions`.

    Source: Goodfellow et al. 2013, arXiv:1312.6211; van de Ven and Tolias 2018,
        arXiv:1809.10635 (there: ``pad=2``, ``permute_first=True``).
    """
    n_pixels, seed = (_SIDE + 2 * options.pad) ** 2, options.seed
    orders = [pixel_order(seed, k, n_pixels) for k in range(options.n_experiences)]
    if not permute_first:
        orders[0] = torch.arange(n_pixels)
    return [
        ExperiencePlan(range(_N_CLASSES), _N_CLASSES * k, order)
        for k, order in enumerate(orders)
    ]


@image_scenario("rotated_mnist", n_experiences=5, incremental="domain")
def rotated_mnist(
    options: ImageOptions,
    *,
    max_angle: float = 180.0,
    angles: Sequence[float] | None = None,
) -> list[ExperiencePlan]:
    """Rotated MNIST: all classes in each experience, its images turned by one angle.

    Turned once, while building (55 MB per experience), counter-clockwise, bilinear,
    after padding. Class-incremental: class c of experience k is class ``10 k + c``.

    Args:
        max_angle: experiences are turned by equal steps from 0 to this many degrees.
        angles: degrees for each experience, instead of equal steps.

    The other options are those of :class:`kancl.benchmarks.image_benchmark.ImageOptions`.

    Raises: ValueError if ``angles`` are not one for each experience.
    Source: Lopez-Paz and Ranzato 2017, arXiv:1706.08840 (random angles there).
    """
    n_experiences = options.n_experiences
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
    return [
        ExperiencePlan(range(_N_CLASSES), _N_CLASSES * k, degrees=float(angle))
        for k, angle in enumerate(angles)
    ]


@image_scenario("mnist")
def joint_mnist(options: ImageOptions) -> list[ExperiencePlan]:
    """Joint MNIST: all ten classes in one experience.

    The options are those of :class:`kancl.benchmarks.image_benchmark.ImageOptions`.
    """
    return [ExperiencePlan(range(_N_CLASSES))]


SCENARIOS: dict[str, Scenario] = {
    "split_mnist": split_mnist,
    "permuted_mnist": permuted_mnist,
    "rotated_mnist": rotated_mnist,
    "mnist": joint_mnist,
    "gaussian_peaks": gaussian_peaks,
}
