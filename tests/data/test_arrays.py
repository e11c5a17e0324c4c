"""Arrays of one's own: taken as they are, or refused in a sentence that names them."""

from typing import Any

import numpy as np
import pytest
import torch

from kancl.data.arrays import checked_arrays

RNG = np.random.default_rng(0)
LABELS = np.arange(30) % 3
FLAT = RNG.random((30, 20))
COLOUR = RNG.integers(0, 256, (30, 8, 6, 3), dtype=np.uint8)


def checked(x: Any = FLAT, y: Any = LABELS, **options: Any) -> Any:
    return checked_arrays(x, y, x, y, **options)


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", ">f4", "int8", "int64", "uint16", "bool"]
)
def test_numbers_become_float32(dtype: str) -> None:
    x = (10 * FLAT * (FLAT > 0.5)).astype(dtype)
    data = checked(x)
    assert data.train_x.dtype == torch.float32 and not data.is_bytes
    assert np.array_equal(data.train_x.numpy(), x.astype("float32"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.int32])
def test_tensors_are_taken_as_arrays_are(dtype: torch.dtype) -> None:
    x = torch.from_numpy(10 * FLAT).to(dtype)
    data = checked(x.requires_grad_(dtype == torch.float64), torch.from_numpy(LABELS))
    assert torch.equal(data.train_x, x.detach().float())
    assert data.test_labels.tolist() == LABELS.tolist()


def test_the_arrays_are_copied() -> None:
    x, y = FLAT.astype(np.float32), LABELS.copy()
    x.flags.writeable = False
    data = checked(x[::-1], y)
    y[:] = 0
    assert np.array_equal(data.train_x.numpy(), x[::-1])
    assert data.train_labels.tolist() == LABELS.tolist()


def test_images_come_with_their_channels_in_front() -> None:
    last, first = checked(COLOUR, channels="last"), COLOUR.transpose(0, 3, 1, 2)
    assert last.shape == (3, 8, 6) and last.is_bytes and last.is_images
    assert np.array_equal(last.train_x.numpy(), first)
    assert torch.equal(checked(first, channels="first").train_x, last.train_x)
    grey = checked(COLOUR[..., 0])
    assert grey.shape == (1, 8, 6)
    assert np.array_equal(grey.train_x[:, 0].numpy(), COLOUR[..., 0])


def nan() -> np.ndarray:
    x = FLAT.copy()
    x[3, 4], x[5, 6] = np.nan, np.inf
    return x


BAD: list[tuple[dict[str, Any], str]] = [
    ({"x": COLOUR}, "x_train has shape .30, 8, 6, 3.: say where its channels stand"),
    (
        {"x": COLOUR, "channels": "first"},
        "gives x_train .* 8 channels.*channels='last'",
    ),
    ({"x": COLOUR, "channels": "front"}, "channels='front' is unknown"),
    (
        {"channels": "last"},
        r"x_train has shape \(30, 20\), without any: leave channels",
    ),
    ({"x": FLAT[:, 0]}, r"x_train has shape \(30,\); expected \(n, features\)"),
    ({"x": FLAT[:, :0]}, r"x_train has shape \(30, 0\)"),
    ({"x": FLAT.tolist()}, "x_train must be a numpy array or a tensor, not list"),
    ({"x": FLAT.astype(object)}, "x_train holds object"),
    ({"x": FLAT.astype(complex)}, "x_train holds complex128"),
    ({"x": FLAT.astype(str)}, "x_train holds <U"),
    ({"x": nan()}, "x_train has 2 values that are NaN, infinite"),
    ({"x": 1e39 + FLAT}, "x_train has 600 values .* beyond float32"),
    ({"x": 0 * FLAT}, "x_train holds a single value"),
    ({"y": LABELS[:-1]}, "y_train has 29 labels for 30 samples of x_train"),
    ({"y": np.eye(3)[LABELS]}, r"y_train has shape \(30, 3\).*argmax"),
    ({"y": LABELS[:, None]}, r"y_train has shape \(30, 1\).*take y\[:, 0\]"),
    ({"y": LABELS / 1}, "y_train holds float64; expected whole numbers"),
    ({"y": LABELS.astype(str)}, "y_train holds <U.*np.unique"),
    ({"y": LABELS + 1}, "y_train has the classes 1, 2, 3; number them 0 to 2"),
    ({"y": LABELS - 1}, "y_train has the classes -1, 0, 1"),
    ({"y": 0 * LABELS}, "y_train has one class only"),
    ({"class_names": ["a"]}, "class_names has 1 names for 3 classes"),
]


@pytest.mark.parametrize("given, message", BAD)
def test_what_cannot_be_learned_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        checked(**given)
    assert "\n" not in str(error.value)


def test_training_and_test_have_to_agree() -> None:
    for x_test, y_test, message in (
        (FLAT[:, :5], LABELS, r"x_train is \(20,\) float32 and one of x_test \(5,\)"),
        (FLAT.astype(np.uint8), LABELS, "float32 and one of x_test .* uint8"),
        (FLAT, LABELS // 2, "class 2 is in y_train but not in y_test"),
        (FLAT, LABELS * 2, "class 4 is in y_test but not in y_train"),
    ):
        with pytest.raises(ValueError, match=message):
            checked_arrays(FLAT, LABELS, x_test, y_test)
