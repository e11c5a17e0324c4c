"""What streams consist of: options, plans of experiences, the samples of each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from kancl.config.values import Bounds, Count, Share
from kancl.data.arrays import Arrays
from kancl.data.checks import check_choice, check_count
from kancl.data.images import rotate_images
from kancl.data.scaling import Normalize

Incremental = Literal["class", "domain", "task"]
ClassOrder = Literal["fixed", "random"] | Sequence[int]
Classes = Sequence[Sequence[int]]
LONGEST = 1000
"""Experiences of a stream; each is tested after each."""


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """The options that all streams share, checked before any data are read.

    Args:
        n_experiences: how many experiences there are.
        incremental: ``class``: tell all classes apart, without being told the experience;
            ``domain``: the same outputs in every experience; ``task``: told the
            experience (task label), outputs of its own for each.
        normalize: pixels as ``none``: [0, 1]; ``unit``: [-1, 1]; ``standard``: mean 0 and
            standard deviation 1 over the training data, per channel. Numbers that are no
            bytes: ``none``: as they are; ``unit``, ``standard``: per channel or feature.
        validation: share of the training samples, of each class in every experience, that
            makes the validation stream instead.
        train_samples, test_samples: at most so many per experience, classes in
            proportion.
        blurry_boundaries: share of the training samples, of each class in every
            experience, that is dealt out to the other experiences instead; tests stay.
        batches_per_experience: an online stream: the training samples of every experience
            are shuffled and split into experiences of so many batches, in which each
            sample stands once; each is tested on all that the whole is tested on. null:
            they stay together.
        batch_size: samples of such a batch.
        seed: decides everything that is drawn while building.
        device: where the data live.
    Raises: ValueError for a value out of range, naming it.
    """

    n_experiences: Annotated[int, Bounds(1, LONGEST)] | None = 1
    incremental: Incremental = "class"
    normalize: Normalize = "none"
    validation: Share = 0.0
    train_samples: Count | None = None
    test_samples: Count | None = None
    blurry_boundaries: Share = 0.0
    batches_per_experience: Count | None = None
    batch_size: int = 128
    seed: int = 0
    device: str | torch.device = "cpu"

    def __post_init__(self) -> None:
        check_choice("incremental", self.incremental, get_args(Incremental))
        check_choice("normalize", self.normalize, get_args(Normalize))
        check_count("seed", self.seed, 0)
        counts = "n_experiences train_samples test_samples batches_per_experience"
        for name in (*counts.split(), "batch_size"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name), 1)
        check_length(f"n_experiences={self.n_experiences}", self.n_experiences or 1)
        for name in ("validation", "blurry_boundaries"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} must be a share of the training "
                    "samples, 0 or more and below 1"
                )
        if self.blurry_boundaries and self.incremental == "task":
            raise ValueError(
                f"blurry_boundaries={self.blurry_boundaries} mixes experiences, which "
                "incremental=task tells apart: use incremental=class or domain"
            )
        try:
            torch.device(self.device)
        except RuntimeError:
            raise ValueError(
                f"device={self.device!r} is not a device; expected cpu, cuda or cuda:1"
            ) from None


@dataclass(frozen=True)
class ExperiencePlan:
    """What one experience consists of: classes, samples, and what is done to them.

    Args:
        classes: of the data set, in the order of their targets.
        first_id: class c of the data set is class first_id + c here.
        order: of the values of an input, ``(in_features,)``; None: as they are.
        degrees: by which images are turned counter-clockwise.
        part: which part of a data set made of several; None: all.
    """

    classes: Sequence[int]
    first_id: int = 0
    order: Tensor | None = None
    degrees: float = 0.0
    part: int | None = None

    @property
    def class_ids(self) -> list[int]:
        return [self.first_id + label for label in self.classes]

    def targets(self, labels: Tensor, incremental: str) -> Tensor:
        if incremental == "class":
            return labels + self.first_id
        position = torch.full((max(self.classes) + 1,), -1)
        position[torch.tensor(self.classes)] = torch.arange(len(self.classes))
        return position[labels]


@dataclass(frozen=True, eq=False)
class Piece:
    """Samples of one plan: their rows in all inputs, and their targets."""

    plan: int
    rows: Tensor
    targets: Tensor

    def take(self, index: Tensor) -> "Piece":
        return Piece(self.plan, self.rows[index], self.targets[index])


Streams = dict[str, list[list[Piece]]]
"""By stream and experience: pieces, of several plans where boundaries are blurred."""


def check_length(option: str, n_experiences: int) -> None:
    if n_experiences > LONGEST:
        raise ValueError(
            f"{option} makes {n_experiences:,} experiences, and a stream has {LONGEST:,} "
            "at most: each of them is tested after each"
        )


# Every draw has its own generator, seeded by what it is for: torch's global generator is
# never touched, and a draw does not depend on how many others there are.
CLASS_ORDER, PIXEL_ORDER, VALIDATION, CAP, BLUR, ONLINE = range(6)


def split(
    options: StreamOptions,
    there: int,
    *,
    n_classes: Count | None = None,
    class_order: ClassOrder = "fixed",
    classes: Classes | None = None,
) -> list[ExperiencePlan]:
    """Plan experiences that share out the classes of a data set.

    Args:
        there: how many classes the data have.
    Raises: ValueError naming the option at fault.
    """
    if isinstance(class_order, str):
        check_choice("class_order", class_order, ("fixed", "random"))
        order = list(range(there))
        if class_order == "random":
            generator = np.random.default_rng([CLASS_ORDER, options.seed])
            order = generator.permutation(there).tolist()
    else:
        order = [int(label) for label in class_order]
        if len({*order}) < len(order) or not {*order} <= {*range(there)}:
            raise ValueError(
                f"class_order={order} must name classes between 0 and {there - 1}, each "
                "at most once"
            )
    if n_classes is not None:
        check_count("n_classes", n_classes, 1)
        if n_classes > len(order):
            raise ValueError(
                f"n_classes={n_classes} is more than the {len(order)} there are"
            )
        order = order[:n_classes]
    if classes is None:
        n = options.n_experiences or 5
        if len(order) % n:
            even = [k for k in range(1, len(order) + 1) if len(order) % k == 0]
            near = min(even, key=lambda k: abs(k - n))
            said = f"n_experiences={n} cannot share out {len(order)} classes evenly"
            if options.n_experiences is None and n_classes is not None:
                said = f"n_classes={n_classes} does not go evenly into {n} experiences"
            elif options.n_experiences is None and not isinstance(class_order, str):
                said = f"class_order={order} does not go evenly into {n} experiences"
            raise ValueError(
                f"{said}; nearest: n_experiences={near} (expected one of {even}), or "
                "classes=[[0,1,2],[3,4],...]"
            )
        width = len(order) // n
        classes = [range(k * width, (k + 1) * width) for k in range(n)]
    elif options.n_experiences not in (None, len(classes)):
        raise ValueError(
            f"n_experiences={options.n_experiences} does not go with the {len(classes)} "
            "experiences that classes lists: leave it out"
        )
    if not classes:
        raise ValueError("classes lists no experience: give each its classes")
    for k, group in enumerate(classes, start=1):
        if not group:
            raise ValueError(
                f"classes: experience {k} has no classes: give it some, or drop it"
            )
    check_length("classes", len(classes))
    for label in sorted(set[int]().union(*classes)):
        if not 0 <= label < len(order):
            raise ValueError(
                f"classes names {label}, and there are {len(order)}: 0 to "
                f"{len(order) - 1}"
            )
    return [ExperiencePlan([order[label] for label in group]) for group in classes]


def choose(
    arrays: Arrays, plans: Sequence[ExperiencePlan], options: StreamOptions
) -> Streams:
    """The samples of each plan; test rows follow training rows."""
    n_train = len(arrays.train_labels)
    labels = torch.cat([arrays.train_labels, arrays.test_labels])
    streams: Streams = {}
    for k, plan in enumerate(plans):
        seed = [options.seed, k]
        # the order in which Avalanche's generators meet these classes: that of a set
        classes = [label - plan.first_id for label in set(plan.class_ids)]
        own = [labels == c for c in classes]
        if plan.part is not None:
            own = [mask & (arrays.parts == plan.part) for mask in own]
        by_class = torch.cat([mask.nonzero().flatten() for mask in own])
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
                    f"validation={options.validation!r} leaves experience {k + 1} of the "
                    f"{stream} stream without samples: bring it nearer to 0.5"
                )
            targets = plan.targets(labels[chosen], options.incremental)
            streams.setdefault(stream, []).append([Piece(k, chosen, targets)])
    return streams


def blurred(streams: Streams, options: StreamOptions) -> Streams:
    """Deal a share of each experience's training samples out to the others."""
    if not options.blurry_boundaries:
        return streams
    n = len(streams["train"])
    if n == 1:
        raise ValueError(
            f"blurry_boundaries={options.blurry_boundaries} needs several experiences: "
            "there is one only"
        )
    own, guests = [], [list[Piece]() for _ in range(n)]
    for k, (piece,) in enumerate(streams["train"]):
        n_leaving = round(options.blurry_boundaries * len(piece.rows))
        seed = [BLUR, options.seed, k]
        leaves = _stratified(piece.targets, n_leaving, seed)
        own.append([piece.take(~leaves)])
        order = torch.from_numpy(np.random.default_rng(seed).permutation(n_leaving))
        leaving = piece.take(leaves.nonzero().flatten()[order])
        for i, other in enumerate(j for j in range(n) if j != k):
            dealt = torch.arange(i, n_leaving, n - 1)
            guests[other] += [leaving.take(dealt)] if len(dealt) else []
    return streams | {"train": [[*a, *b] for a, b in zip(own, guests)]}


def turned(
    x: Tensor, streams: Streams, plans: Sequence[ExperiencePlan]
) -> tuple[Tensor, Streams]:
    """Give each experience images of its own, turned by the degrees of their plan."""
    images, start = [], 0
    own: Streams = {stream: [] for stream in streams}
    for stream, experiences in streams.items():
        for pieces in experiences:
            own[stream].append([])
            for piece in pieces:
                images.append(rotate_images(x[piece.rows], plans[piece.plan].degrees))
                rows = torch.arange(start, start + len(piece.rows))
                own[stream][-1].append(replace(piece, rows=rows))
                start += len(rows)
    return torch.cat(images), own


def online(streams: Streams, options: StreamOptions) -> Streams:
    """Split training experiences into short ones, each tested as the whole was."""
    n_batches = options.batches_per_experience
    if n_batches is None:
        return streams
    short: Streams = {stream: [] for stream in streams}
    for k, pieces in enumerate(streams["train"]):
        sizes = torch.tensor([len(piece.rows) for piece in pieces])
        owner = torch.arange(len(pieces)).repeat_interleave(sizes)
        starts = sizes.cumsum(0) - sizes
        generator = np.random.default_rng([ONLINE, options.seed, k])
        order = torch.from_numpy(generator.permutation(len(owner)))
        chunks = order.split(n_batches * options.batch_size)
        for chunk in chunks:
            own = [chunk[owner[chunk] == i] - starts[i] for i in range(len(pieces))]
            taken = [piece.take(rows) for piece, rows in zip(pieces, own) if len(rows)]
            short["train"].append(taken)
        for stream in short.keys() - {"train"}:
            short[stream] += [streams[stream][k]] * len(chunks)
    check_length(f"batches_per_experience={n_batches}", len(short["train"]))
    return short


def pixel_order(
    seed: int, experience: int, n_pixels: int, share: float = 1.0
) -> Tensor:
    """The permutation of one experience; the same for any number of experiences.

    Args:
        share: of the pixels, which change places among themselves; those of a smaller
            share are among those of a larger one.
    """
    generator = np.random.default_rng([PIXEL_ORDER, seed, experience])
    moved = generator.permutation(n_pixels)[: round(share * n_pixels)]
    order = np.arange(n_pixels)
    order[np.sort(moved)] = moved
    return torch.from_numpy(order)


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
