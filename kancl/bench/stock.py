"""Other projects, to measure beside: their spline layers, stock Avalanche's Split MNIST."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kancl.data.images import load_images


def load_efficient_kan(checkout: str | Path) -> Callable[..., nn.Module]:
    """The class ``KAN`` of a checkout of efficient-kan; runs the code in it.

    Raises: ValueError if there is none.
    """
    path = Path(checkout) / "src" / "efficient_kan" / "kan.py"
    spec = importlib.util.spec_from_file_location("efficient_kan_checkout", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ValueError(
            f"{checkout} is no checkout of efficient-kan: {path} is missing"
        )
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network: Callable[..., nn.Module] = module.KAN
    return network


def load_inkan() -> Callable[..., nn.Module] | None:
    """inkan's network, if the package is installed (extra ``bench``)."""
    if importlib.util.find_spec("inkan") is None:
        return None
    network: Callable[..., nn.Module] = importlib.import_module("inkan").KANNetwork
    return network


@contextmanager
def torchvision_folder(samples: int | None = None) -> Iterator[Path]:
    """A folder in which torchvision finds MNIST, as long as the context lasts.

    Args:
        samples: only so many images of each class, to train and to test on.
    """
    mnist = load_images()
    train = _first(mnist.train_labels, samples)
    test = _first(mnist.test_labels, samples)
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


def _first(labels: Tensor, n: int | None) -> Tensor:
    """Positions of the first ``n`` images of each class, in their order; None: all."""
    parts = [torch.nonzero(labels == c).flatten()[:n] for c in labels.unique()]
    return torch.cat(parts).sort().values


def stock_split_mnist(folder: Path, **options: Any) -> Any:
    """Five experiences of two classes, in the order of the digits.

    Args:
        options: further arguments of ``SplitMNIST``, such as its transforms.
    """
    # Not above: the benchmarks of layers do without Avalanche.
    from avalanche.benchmarks.classic import SplitMNIST

    order = list(range(10))
    return SplitMNIST(5, fixed_class_order=order, dataset_root=folder, **options)


def train_and_evaluate(learner: Any, benchmark: Any) -> list[dict[str, float]]:
    """Avalanche's metrics of all test experiences after each training experience."""
    metrics = []
    for experience in benchmark.train_stream:
        learner.train(experience)
        metrics.append(learner.eval(benchmark.test_stream))
    return metrics
