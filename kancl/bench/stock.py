"""Avalanche's own Split MNIST, over the files that come with kancl."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks.classic import SplitMNIST
from torch import Tensor

from kancl.data.images import load_images


@contextmanager
def torchvision_folder(
    train_samples: int | None = None, test_samples: int | None = None
) -> Iterator[Path]:
    """A folder in which torchvision finds MNIST, as long as the context lasts.

    Args:
        train_samples, test_samples: only so many images of each class.
    """
    mnist = load_images()
    train = _first(mnist.train_labels, train_samples)
    test = _first(mnist.test_labels, test_samples)
    files = {
        "train-images-idx3-ubyte": mnist.train_images[train],
        "train-labels-idx1-ubyte": mnist.train_labels[train],
        "t10k-images-idx3-ubyte": mnist.test_images[test],
        "t10k-labels-idx1-ubyte": mnist.test_labels[test],
    }
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "MNIST", "raw")
        raw.mkdir(parents=True)
        for name, values in files.items():
            sizes = np.array([0x0800 + values.dim(), *values.shape], dtype=">u4")
            content = values.to(torch.uint8).numpy().tobytes()
            (raw / name).write_bytes(sizes.tobytes() + content)
        yield Path(folder)


def stock_split_mnist(folder: Path, **options: Any) -> Any:
    """Five experiences of two classes, in the order of the digits.

    Args:
        options: further arguments of ``SplitMNIST``, such as its transforms.
    """
    order: Sequence[int] = list(range(10))
    return SplitMNIST(5, fixed_class_order=order, dataset_root=folder, **options)


def _first(labels: Tensor, n: int | None) -> Tensor:
    """Positions of the first ``n`` images of each class, in their order; None: all."""
    if n is None:
        return torch.arange(len(labels))
    parts = [torch.nonzero(labels == c).flatten()[:n] for c in labels.unique()]
    return torch.cat(parts).sort().values
