"""The scenarios by name in ``SCENARIOS``."""

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import torch

from kancl.benchmarks.benchmark import Benchmark
from kancl.benchmarks.gaussian_peaks import gaussian_peaks
from kancl.benchmarks.plans import (
    Classes,
    ClassOrder,
    ExperiencePlan,
    StreamOptions,
    pixel_order,
    split,
)
from kancl.benchmarks.streams import assemble
from kancl.config.values import Bounds, Count, DataFile, Natural
from kancl.data.arrays import Arrays, Channels, checked_arrays
from kancl.data.checks import check_choice, check_count
from kancl.data.images import SOURCES, load_images
from kancl.data.npz import read_npz

Dataset = Literal[
    "mnist",
    "fashion_mnist",
    "kmnist",
    "emnist",
    "usps",
    "cifar10",
    "cifar100",
    "svhn",
]
Plan = Callable[..., Sequence[ExperiencePlan]]
Scenario = Callable[..., Benchmark]


@dataclass(frozen=True, kw_only=True)
class ImageOptions(StreamOptions):
    """The options of streams of images by name.

    Args:
        dataset: which images.
        data_dir: folder in torchvision's layout; None: the MNIST in this package.
        pad: black pixels added on each side.
    """

    dataset: Dataset = "mnist"
    data_dir: str | Path | None = None
    pad: Natural = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("dataset", self.dataset, get_args(Dataset))
        check_count("pad", self.pad, 0)

    @cached_property
    def arrays(self) -> Arrays:
        return load_images(self.dataset, self.data_dir)

    @property
    def n_classes(self) -> int:
        """Known before the images are read."""
        return len(SOURCES[self.dataset].class_names)

    @property
    def in_features(self) -> int:
        channels, height, width = SOURCES[self.dataset].shape
        return channels * (height + 2 * self.pad) * (width + 2 * self.pad)


@dataclass(frozen=True, kw_only=True)
class FileOptions(StreamOptions):
    """The options of streams of a file's arrays.

    Args:
        file: written by ``numpy.savez(file, x_train=..., y_train=..., x_test=...,
            y_test=...)``, with ``class_names=...`` if they have names.
        channels: where those of images stand: ``first``: (n, channels, height, width),
            ``last``: (n, height, width, channels); null: there are none: features
            (n, features), or grey images (n, height, width).
    """

    file: DataFile = ""
    data_dir: str | Path | None = None
    channels: Channels | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.file:
            raise ValueError(
                "scenario=arrays needs scenario.file=DATA.npz, with the arrays x_train, "
                "y_train, x_test and y_test"
            )
        if self.data_dir is not None:
            raise ValueError("scenario=arrays reads its file: leave data_dir=null")

    @cached_property
    def arrays(self) -> Arrays:
        path = Path(self.file).expanduser()
        try:
            status = path.stat()
        except OSError:
            raise ValueError(f"there is no file {path}") from None
        return _read(path, self.channels, status.st_mtime_ns, status.st_size)

    @property
    def n_classes(self) -> int:
        return len(self.arrays.class_names)


@lru_cache(maxsize=1)
def _read(path: Path, channels: Channels | None, *status: int) -> Arrays:
    """The runs of a sweep read and check a file once, as long as time and size stay."""
    arrays, class_names = read_npz(path)
    return checked_arrays(
        **arrays, channels=channels, class_names=class_names, name=path.stem
    )


def scenario(
    name: str, kind: type[ImageOptions | FileOptions] = ImageOptions, **defaults: Any
) -> Callable[[Plan], Scenario]:
    """Make a scenario of a function that plans experiences.

    Its keyword-only arguments are the fields of ``kind``, then those of the plan, which
    gets the options as its first argument. ``n_experiences`` and
    ``incremental`` are among them if their defaults are given.
    """

    def decorate(plan: Plan) -> Scenario:
        _, *own = inspect.signature(plan, eval_str=True).parameters.values()
        options = inspect.signature(kind, eval_str=True).parameters
        omitted = {"n_experiences", "incremental"} - defaults.keys()
        shared = {
            name: parameter.replace(default=defaults.get(name, parameter.default))
            for name, parameter in options.items()
            if name not in omitted
        }
        if defaults.get("n_experiences") is not None:
            kind_of, _ = get_args(shared["n_experiences"].annotation)
            count = shared["n_experiences"].replace(annotation=kind_of)
            shared["n_experiences"] = count
        parameters = [*shared.values(), *own]
        signature = inspect.Signature(parameters, return_annotation=Benchmark)

        @functools.wraps(plan)
        def build(**given: Any) -> Benchmark:
            bound = signature.bind(**given)
            bound.apply_defaults()
            values = bound.arguments
            options = kind(**{name: values.pop(name) for name in shared})
            plans = plan(options, **values)
            pad = getattr(options, "pad", 0)
            return assemble(name, options.arrays, plans, options, pad)

        build.__signature__ = signature  # type: ignore[attr-defined]
        build.__annotations__ = {p.name: p.annotation for p in parameters}
        return build

    return decorate


@scenario("split_mnist", n_experiences=None, incremental="class")
def split_mnist(
    options: ImageOptions,
    *,
    n_classes: Count | None = None,
    class_order: ClassOrder = "fixed",
    classes: Classes | None = None,
) -> list[ExperiencePlan]:
    """Split MNIST: each experience brings some of the ten classes.

    Targets are the classes themselves if class-incremental; otherwise the position of a
    class among those of its experience.

    Args:
        n_experiences: null: 5, or as many as ``classes`` lists.
        n_classes: use only so many classes, the first of the class order; null: all.
        class_order: ``fixed``: the first experience has classes 0, 1...; ``random``: dealt out
            by ``seed``; or the classes themselves, in the order in which they come.
        classes: those of each experience, as places in the class order: uneven, such as
            ``[[0,1,2],[3,4],[5,6,7,8,9]]``, repeated or overlapping; an experience has
            all samples of its classes. null: equally many.

    The other options are those of :class:`kancl.benchmarks.scenarios.ImageOptions`.

    Source: Zenke, Poole, Ganguli 2017, arXiv:1703.04200; van de Ven and Tolias 2019,
        arXiv:1904.07734, for the three kinds of incremental learning.
    """
    return split(
        options,
        options.n_classes,
        n_classes=n_classes,
        class_order=class_order,
        classes=classes,
    )


@scenario("arrays", FileOptions, n_experiences=None, incremental="class")
def arrays(
    options: FileOptions,
    *,
    class_order: ClassOrder = "fixed",
    classes: Classes | None = None,
) -> list[ExperiencePlan]:
    """Arrays of one's own from a file, split by classes as Split MNIST is.

    Args:
        n_experiences: null: 5, or as many as ``classes`` lists.
        class_order: ``fixed``: the first experience has classes 0, 1...; ``random``: dealt out
            by ``seed``; or the classes themselves, in the order in which they come.
        classes: those of each experience, as places in the class order, such as
            ``[[0,1,2],[3,4],[5,6]]``; null: equally many.

    The other options are those of :class:`kancl.benchmarks.scenarios.FileOptions`.
    """
    n = options.n_classes
    return split(options, n, class_order=class_order, classes=classes)


@scenario("permuted_mnist", n_experiences=10, incremental="domain")
def permuted_mnist(
    options: ImageOptions,
    *,
    permute_first: bool = False,
    permuted_share: Annotated[float, Bounds(0, 1, is_open=True)] = 1.0,
) -> list[ExperiencePlan]:
    """Permuted MNIST: all classes in each experience, its pixels in an order of its own.

    Padding comes before permuting. The order of an experience depends on ``seed`` and its
    number only. Class-incremental: class c of experience k is class ``10 k + c``.

    Args:
        permute_first: permute the first experience too, instead of leaving it as it is.
        permuted_share: of the pixels, that change places among themselves; the fewer, the
            more alike experiences are.

    The other options are those of :class:`kancl.benchmarks.scenarios.ImageOptions`.

    Source: Goodfellow et al. 2013, arXiv:1312.6211; van de Ven and Tolias 2018,
        arXiv:1809.10635 (there: ``pad=2``, ``permute_first=True``).
    """
    if not 0 < permuted_share <= 1:
        raise ValueError(
            f"permuted_share={permuted_share!r} must be a share of the pixels, above 0 "
            "and at most 1"
        )
    n_pixels, n_classes = options.in_features, options.n_classes
    orders = [
        pixel_order(options.seed, k, n_pixels, permuted_share)
        for k in range(options.n_experiences or 1)
    ]
    if not permute_first:
        orders[0] = torch.arange(n_pixels)
    return [
        ExperiencePlan(range(n_classes), n_classes * k, order)
        for k, order in enumerate(orders)
    ]


@scenario("rotated_mnist", n_experiences=5, incremental="domain")
def rotated_mnist(
    options: ImageOptions,
    *,
    max_angle: Annotated[float, Bounds(-360, 360)] = 180.0,
    angles: Sequence[float] | None = None,
) -> list[ExperiencePlan]:
    """Rotated MNIST: all classes in each experience, its images turned by one angle.

    Turned once, while building (55 MB per experience), counter-clockwise, bilinear,
    after padding. Class-incremental: class c of experience k is class ``10 k + c``.

    Args:
        max_angle: experiences are turned by equal steps from 0 to this many degrees.
        angles: degrees for each experience, instead of equal steps.

    The other options are those of :class:`kancl.benchmarks.scenarios.ImageOptions`.

    Raises: ValueError if ``angles`` are not one for each experience.
    Source: Lopez-Paz and Ranzato 2017, arXiv:1706.08840 (random angles there).
    """
    n_experiences, n_classes = options.n_experiences or 1, options.n_classes
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
        ExperiencePlan(range(n_classes), n_classes * k, degrees=float(angle))
        for k, angle in enumerate(angles)
    ]


@scenario("mnist")
def joint_mnist(options: ImageOptions) -> list[ExperiencePlan]:
    """Joint MNIST: all ten classes in one experience.

    The options are those of :class:`kancl.benchmarks.scenarios.ImageOptions`.
    """
    return [ExperiencePlan(range(options.n_classes))]


SCENARIOS: dict[str, Scenario] = {
    "split_mnist": split_mnist,
    "permuted_mnist": permuted_mnist,
    "rotated_mnist": rotated_mnist,
    "mnist": joint_mnist,
    "arrays": arrays,
    "gaussian_peaks": gaussian_peaks,
}
