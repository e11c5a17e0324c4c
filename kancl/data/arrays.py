"""Whole data sets as tensors, checked: arrays, torch data sets, ``.npz`` files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from kancl.data.checks import check_choice

Channels = Literal["first", "last"]
FEW = (1, 3, 4)  # channels of grey images, of colours, of colours with transparency


@dataclass(frozen=True, eq=False)
class Arrays:
    """A data set in memory.

    Args:
        train_x, test_x: ``(n, ...)``, bytes or float32; images are
            ``(n, channels, height, width)``.
        train_labels, test_labels: ``(n,)``, int64, 0 to the number of classes - 1.
        class_names: one for each class.
        train_parts, test_parts: ``(n,)``, of a data set made of several: the number of
            that which a sample came from.
        mean, std: published ones of the training pixels in [0, 1]; None: computed where
            they are needed.
    """

    name: str
    train_x: Tensor
    train_labels: Tensor
    test_x: Tensor
    test_labels: Tensor
    class_names: tuple[str, ...]
    train_parts: Tensor | None = None
    test_parts: Tensor | None = None
    mean: float | None = None
    std: float | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.train_x.shape[1:])

    @property
    def parts(self) -> Tensor | None:
        """The part that each sample came from, test samples behind training samples."""
        if self.train_parts is None or self.test_parts is None:
            return None
        return torch.cat([self.train_parts, self.test_parts])

    @property
    def is_bytes(self) -> bool:
        return self.train_x.dtype == torch.uint8

    @property
    def is_images(self) -> bool:
        return len(self.shape) == 3


def checked_arrays(
    x_train: Any,
    y_train: Any,
    x_test: Any,
    y_test: Any,
    *,
    channels: Channels | None = None,
    class_names: Sequence[str] | None = None,
    name: str = "arrays",
) -> Arrays:
    """Check numpy arrays or tensors, and make a data set of them.

    Bytes (uint8) stay bytes, other numbers become float32.

    Args:
        channels: where the channels of colour images stand: ``first``:
            ``(n, channels, height, width)``; ``last``: ``(n, height, width, channels)``.
            None: there are none: grey images ``(n, height, width)``, or features.
        class_names: in the order of the labels; None: the numbers.
    Raises: ValueError naming the array that is at fault.
    """
    if channels is not None:
        check_choice("channels", channels, get_args(Channels))
    x = {"x_train": x_train, "x_test": x_test}
    inputs = {key: _inputs(value, key, channels) for key, value in x.items()}
    train, test = inputs.values()
    if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
        said = [f"{tuple(t.shape[1:])} {_dtype(t)}" for t in (train, test)]
        raise ValueError(
            f"a sample of x_train is {said[0]} and one of x_test {said[1]}: they must "
            "have one shape and one type"
        )
    if train.min() == train.max():
        raise ValueError("x_train holds a single value: there is nothing to learn from")
    labels = [
        _labels(values, key, len(train if key == "y_train" else test))
        for key, values in (("y_train", y_train), ("y_test", y_test))
    ]
    classes = _check_classes(*labels)
    names = tuple(map(str, range(classes) if class_names is None else class_names))
    if len(names) != classes:
        raise ValueError(
            f"class_names has {len(names)} names for {classes} classes: name each of them"
        )
    return Arrays(name, train, labels[0], test, labels[1], names)


def _inputs(x: Any, key: str, channels: Channels | None) -> Tensor:
    array = _array(x, key)
    if array.ndim < 2 or 0 in array.shape:
        raise ValueError(
            f"{key} has shape {array.shape}; expected (n, features), (n, height, width) "
            "or images with channels, at least one sample of at least one value"
        )
    if array.dtype.kind not in "buif":
        raise ValueError(
            f"{key} holds {array.dtype}; expected numbers, such as uint8 or float32"
        )
    is_bytes = array.dtype == np.uint8
    with np.errstate(over="ignore"):
        array = array.astype(np.uint8 if is_bytes else np.float32, order="C")
    if not is_bytes and (n := int((~np.isfinite(array)).sum())):
        raise ValueError(
            f"{key} has {n:,} values that are NaN, infinite or beyond float32: leave "
            "their samples out or fill them in"
        )
    images = torch.from_numpy(array)
    if array.ndim == 3 and channels is None:
        return images.unsqueeze(1)
    if array.ndim != 4:
        if channels is not None:
            raise ValueError(
                f"channels={channels!r} is of images with channels, and {key} has shape "
                f"{array.shape}, without any: leave channels out"
            )
        return images
    if channels is None:
        raise ValueError(
            f"{key} has shape {array.shape}: say where its channels stand, channels="
            "'first' (n, channels, height, width) or 'last' (n, height, width, channels)"
        )
    n_channels, other = array.shape[1], array.shape[3]
    if channels == "last":
        n_channels, other = other, n_channels
    if n_channels not in FEW and other in FEW:
        raise ValueError(
            f"channels={channels!r} gives {key} of shape {array.shape} {n_channels} "
            f"channels: the {other} on the other side look like them; set channels="
            f"{'first' if channels == 'last' else 'last'!r}"
        )
    return images if channels == "first" else images.movedim(3, 1).contiguous()


def _labels(y: Any, key: str, n: int) -> Tensor:
    array = _array(y, key)
    if array.ndim != 1:
        hint = ""
        if array.ndim == 2:
            is_column = array.shape[1] == 1
            hint = "; take y[:, 0]" if is_column else "; of one-hot rows take argmax(1)"
        raise ValueError(
            f"{key} has shape {array.shape}; expected (n,), a class per sample{hint}"
        )
    if len(array) != n:
        raise ValueError(
            f"{key} has {len(array):,} labels for {n:,} samples of x{key[1:]}"
        )
    if array.dtype.kind not in "bui":
        raise ValueError(
            f"{key} holds {array.dtype}; expected whole numbers: take "
            "np.unique(y, return_inverse=True)[1] of train and test together"
        )
    return torch.from_numpy(array.astype(np.int64))


def _check_classes(train: Tensor, test: Tensor) -> int:
    """Returns: how many classes there are."""
    classes = train.unique().tolist()
    for key, labels, others in (
        ("y_test", test, classes),
        ("y_train", train, test.unique().tolist()),
    ):
        if lacking := sorted(set(labels.unique().tolist()) - set(others)):
            other = "y_train" if key == "y_test" else "y_test"
            raise ValueError(
                f"class {lacking[0]} is in {key} but not in {other}: each class needs "
                "samples to learn from and samples to test on"
            )
    if classes != list(range(len(classes))):
        shown = ", ".join(map(str, classes[:5]))
        raise ValueError(
            f"y_train has the classes {shown}{' ...' * (len(classes) > 5)}; number them "
            f"0 to {len(classes) - 1}, as np.unique(y, return_inverse=True)[1] does"
        )
    if len(classes) == 1:
        raise ValueError("y_train has one class only: there is nothing to tell apart")
    return len(classes)


def _array(values: Any, key: str) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        if values.dtype == torch.bfloat16:  # which numpy lacks
            values = values.float()
        return values.numpy()
    if not isinstance(values, np.ndarray):
        raise ValueError(
            f"{key} must be a numpy array or a tensor, not {type(values).__name__}"
        )
    return values


def _dtype(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")
