"""The options that all image scenarios share, checked before any data are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from kancl.data.checks import check_choice, check_count

Dataset = Literal["mnist", "fashion_mnist", "kmnist"]
Incremental = Literal["class", "domain", "task"]
ClassOrder = Literal["fixed", "random"]
Normalize = Literal["none", "unit", "standard"]


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """What to read and how to prepare it.

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
