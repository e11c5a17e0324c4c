"""MNIST from the package, other sets of images from a folder: read, padded, turned."""

import functools
import hashlib
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kancl.data.arrays import Arrays, Channels, checked_arrays
from kancl.data.checks import check_choice
from kancl.data.torchvision_sets import downloading, read_torchvision
from kancl.reading import read_bytes, unpack_gzip

_FILES = {  # sizes of the arrays, the first is the number of images
    "train-images-idx3-ubyte": (60_000, 28, 28),
    "train-labels-idx1-ubyte": (60_000,),
    "t10k-images-idx3-ubyte": (10_000, 28, 28),
    "t10k-labels-idx1-ubyte": (10_000,),
}
_ROTATE_AT_ONCE = 4096  # images; bounds the memory that a rotation takes


@dataclass(frozen=True)
class Source:
    """Where a data set comes from and what its files must be.

    Args:
        torchvision_name: of its class.
        shape: of one image, (channels, height, width).
        channels: where they stand in torchvision's arrays; None: nowhere.
        mean, std: of the training pixels scaled to [0, 1]; None: computed.
        md5: of the four IDX files, in the order of _FILES; () for a set that torchvision
            reads.
        md5_of_gz: the md5 are of the .gz files, not of the uncompressed ones.
    """

    title: str
    torchvision_name: str
    mean: float | None = None
    std: float | None = None
    _: KW_ONLY
    class_names: tuple[str, ...]
    shape: tuple[int, int, int] = (1, 28, 28)
    channels: Channels | None = None
    md5: tuple[str, ...] = ()
    md5_of_gz: bool = False


_CLOTHES = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
_OBJECTS = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck"
_DIGITS = tuple("0123456789")

SOURCES = {
    "mnist": Source(
        *("MNIST", "MNIST", 0.1307, 0.3081),
        class_names=_DIGITS,
        md5=(
            "6bbc9ace898e44ae57da46a324031adb",
            "a25bea736e30d166cdddb491f175f624",
            "2646ac647ad5339dbf082846283269ea",
            "27ae3e4e09519cfbb04c329615203637",
        ),
    ),
    "fashion_mnist": Source(
        *("Fashion-MNIST", "FashionMNIST", 0.2860, 0.3530),
        class_names=tuple(_CLOTHES.split(",")),
        md5=(
            "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "9018921c3c673c538a1fc5bad174d6f9",
            "8181f5470baa50b63fa0f6fddb340f0a",
            "15d484375f8d13e6eb1aabb0c3f46965",
        ),
    ),
    "kmnist": Source(
        *("KMNIST", "KMNIST", 0.1918, 0.3483),
        class_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        md5=(
            "bdb82020997e1d708af4cf47b453dcf7",
            "e144d726b3acfaa3e44228e80efcd344",
            "5c965bf0a639b31b8f53240b1b52f4d7",
            "7320c461ea6c1c855c0b718fb2a4b134",
        ),
        md5_of_gz=True,
    ),
    "emnist": Source(
        *("EMNIST (balanced)", "EMNIST"),
        class_names=tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"),
    ),
    "usps": Source("USPS", "USPS", class_names=_DIGITS, shape=(1, 16, 16)),
    "cifar10": Source(
        *("CIFAR-10", "CIFAR10"),
        class_names=tuple(_OBJECTS.split(",")),
        shape=(3, 32, 32),
        channels="last",
    ),
    "cifar100": Source(
        *("CIFAR-100", "CIFAR100"),
        class_names=tuple(map(str, range(100))),
        shape=(3, 32, 32),
        channels="last",
    ),
    "svhn": Source(
        *("SVHN", "SVHN"), class_names=_DIGITS, shape=(3, 32, 32), channels="first"
    ),
}


def load_images(dataset: str = "mnist", data_dir: str | Path | None = None) -> Arrays:
    """Read, check and return a data set of images.

    Of MNIST, Fashion-MNIST and KMNIST the bytes are compared with the published md5 of the
    uncompressed files. Nobody publishes these for KMNIST: there the md5 of a ``.gz`` file
    is compared, and a file that lies there uncompressed only is checked for its header and
    length. The others are read and checked by torchvision.

    Args:
        dataset: a name in ``SOURCES``.
        data_dir: as torchvision's ``root``: has ``FashionMNIST/raw/...[.gz]`` and so on,
            filled by torchvision's download if not; None: the MNIST files in this package.
    Raises: ValueError for an unknown name, a damaged file, or data not to be had.
    """
    check_choice("dataset", dataset, SOURCES)
    source = SOURCES[dataset]
    if data_dir is None:
        if dataset == "mnist":
            return _shipped_mnist()
        where = f"FOLDER/{source.torchvision_name}/raw" if source.md5 else "FOLDER"
        raise ValueError(
            f"{source.title} does not come with kancl: give data_dir=FOLDER, with its "
            f"files in {where}, or an empty folder to download them into."
        )
    root = Path(data_dir).expanduser()
    if not source.md5:
        return checked_arrays(
            *read_torchvision(source.torchvision_name, source.title, root),
            channels=source.channels,
            class_names=source.class_names,
            name=dataset,
        )
    folder = root / source.torchvision_name / "raw"
    missing = [name for name in _FILES if not _candidates(folder, name)]
    if missing:
        _download(source, folder, missing)
    return _read(dataset, folder, "delete it, and it will be downloaded again")


def unchecked_files(dataset: str, data_dir: str | Path) -> list[Path]:
    """Those of a data set in a folder that no published md5 can be compared with."""
    source, root = SOURCES[dataset], Path(data_dir).expanduser()
    raw = root / source.torchvision_name / "raw"
    if dataset == "emnist":
        return sorted(raw.glob("emnist-balanced-*-ubyte"))
    files = [f for name in _FILES for f in _candidates(raw, name)[:1]]
    return [f for f in files if source.md5_of_gz and f.suffix != ".gz"]


@functools.cache
def _shipped_mnist() -> Arrays:
    folder = Path(__file__).parent / "mnist"
    return _read("mnist", folder, "install kancl again to restore it")


def _read(dataset: str, folder: Path, remedy: str) -> Arrays:
    source = SOURCES[dataset]
    tensors = []
    for (name, shape), md5 in zip(_FILES.items(), source.md5):
        path = _candidates(folder, name)[0]
        array = _read_idx(path, shape, md5, source, remedy)
        tensor = torch.from_numpy(array)
        tensors.append(tensor.long() if tensor.ndim == 1 else tensor.unsqueeze(1))
    train_x, train_labels, test_x, test_labels = tensors
    return Arrays(
        name=dataset,
        train_x=train_x,
        train_labels=train_labels,
        test_x=test_x,
        test_labels=test_labels,
        class_names=source.class_names,
        mean=source.mean,
        std=source.std,
    )


def _candidates(folder: Path, name: str) -> list[Path]:
    """Those of ``name.gz``, which can always be checked, and ``name`` that are there."""
    return [p for p in (folder / f"{name}.gz", folder / name) if p.is_file()]


def _read_idx(
    path: Path, shape: tuple[int, ...], md5: str, source: Source, remedy: str
) -> np.ndarray:
    """Decode one IDX file: a 4-byte magic number, the sizes, then the bytes."""

    def damaged(how: str, verdict: str = "damaged") -> ValueError:
        return ValueError(f"{path} is {verdict}: {how}; {remedy}.")

    header = np.array([0x0800 + len(shape), *shape], dtype=">u4").tobytes()
    expected_length = len(header) + int(np.prod(shape))
    try:
        raw = content = read_bytes(path, 2 * expected_length)
        if path.suffix == ".gz":
            content = unpack_gzip(raw, 2 * expected_length)
    except (OSError, ValueError) as error:
        raise damaged(str(error)) from None
    if len(content) != expected_length or not content.startswith(header):
        raise damaged(
            f"expected {expected_length:,} bytes that start with the IDX header of a "
            f"{' x '.join(map(str, shape))} array, got {len(content):,} bytes"
        )
    if path.suffix == ".gz" or not source.md5_of_gz:
        checked = raw if source.md5_of_gz else content
        found = hashlib.md5(checked, usedforsecurity=False).hexdigest()
        if found != md5:
            raise damaged(f"expected md5 {md5}, got {found}", "damaged or altered")
    array = np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape).copy()
    if len(shape) == 1 and array.max() >= len(source.class_names):
        last = len(source.class_names) - 1
        raise damaged(f"it holds label {array.max()}, expected 0 to {last}")
    return array


def _download(source: Source, folder: Path, missing: list[str]) -> None:
    from torchvision import datasets

    said = f"{source.title} is not in {folder} and could not be downloaded"
    with downloading(folder, said, f"{', '.join(missing)} missing"):
        getattr(datasets, source.torchvision_name)(folder.parents[1], download=True)


def pad_images(images: Tensor, pad: int) -> Tensor:
    """Add ``pad`` black pixels on each side of ``(n, channels, height, width)`` bytes."""
    return F.pad(images, (pad, pad, pad, pad)) if pad else images


def rotate_images(images: Tensor, degrees: float) -> Tensor:
    """Turn ``(n, channels, height, width)`` bytes counter-clockwise about their centre.

    Bilinear; rounded to bytes, as PIL does; what turns in from outside is black.
    """
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import rotate

    turned = [
        rotate(part, degrees, InterpolationMode.BILINEAR)
        for part in images.split(_ROTATE_AT_ONCE)
    ]
    return torch.cat(turned)
