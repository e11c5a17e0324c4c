"""Data sets that torchvision reads and checks, as arrays."""

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from http.client import HTTPException
from io import StringIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np

OWN_ARGUMENTS: dict[str, dict[bool, dict[str, Any]]] = {
    "SVHN": {True: {"split": "train"}, False: {"split": "test"}},
    "EMNIST": {train: {"split": "balanced", "train": train} for train in (True, False)},
}
"""By torchvision's class: how training and test samples are asked for, if not by train."""


def read_torchvision(name: str, title: str, data_dir: Path) -> list[np.ndarray]:
    """Read a data set, downloaded by torchvision if it is not there.

    Args:
        name: of torchvision's class.
        title: for messages.
        data_dir: the ``root`` that torchvision takes.
    Returns: training images, labels, test images, labels; images as torchvision has them,
        but EMNIST's upright.
    Raises: ValueError for files that are damaged or not to be had.
    """
    from torchvision import datasets

    found: list[np.ndarray] = []
    said = f"{title} in {data_dir} is damaged or missing and could not be downloaded"
    with downloading(data_dir / name / "raw", said):
        for train in (True, False):
            arguments = OWN_ARGUMENTS.get(name, {}).get(train, {"train": train})
            part = getattr(datasets, name)(data_dir, download=True, **arguments)
            labels = part.labels if name == "SVHN" else part.targets
            images = np.asarray(part.data)
            found += [images.swapaxes(1, 2) if name == "EMNIST" else images]
            found += [np.asarray(labels, dtype=np.int64)]
            if name == "USPS":  # which torchvision checks while it downloads only
                _, file, md5 = part.split_list["train" if train else "test"]
                if not datasets.utils.check_integrity(data_dir / file, md5):
                    raise RuntimeError(f"{file} has another md5 than {md5}")
    return found


@contextmanager
def downloading(folder: Path, said: str, why: str = "") -> Iterator[None]:
    """Let torchvision read or download in silence.

    Args:
        folder: which torchvision makes first; removed with its parents if empty.
        said: beginning of the message, if it fails.
        why: the reason to give, instead of torchvision's own.
    Raises: ValueError if torchvision fails.
    """
    made = [f for f in (folder, *folder.parents) if not f.exists()]
    try:
        with redirect_stdout(StringIO()):  # one line per failed mirror
            yield
    except (
        *(OSError, RuntimeError, EOFError, ValueError),
        *(HTTPException, UnpicklingError),
    ) as error:
        for empty in made:
            with suppress(OSError):
                empty.rmdir()
        why = why or str(error).strip().split("\n")[0]
        raise ValueError(
            f"{said} ({why}): connect to the internet, or put the files there."
        ) from None
