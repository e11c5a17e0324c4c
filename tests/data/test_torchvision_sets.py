"""Data sets that torchvision reads, from made-up files in torchvision's own layout."""

import bz2
import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torchvision import datasets

from kancl.benchmarks import split_mnist
from kancl.data.images import SOURCES, load_images

RNG = np.random.default_rng(0)
NAMES = [name for name, source in SOURCES.items() if not source.md5]


def images(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def cifar(root: Path, patch: Any, n_classes: int) -> np.ndarray:
    cls = datasets.CIFAR10 if n_classes == 10 else datasets.CIFAR100
    folder, key = root / cls.base_folder, "labels" if n_classes == 10 else "fine_labels"
    folder.mkdir(parents=True)
    written = []
    for attribute in ("train_list", "test_list"):
        sums = []
        for name, _ in getattr(cls, attribute):
            x, y = images(n_classes, 3072), list(range(n_classes))
            (folder / name).write_bytes(pickle.dumps({"data": x, key: y}))
            sums.append([name, md5(folder / name)])
            written.append(x.reshape(-1, 3, 32, 32))
        patch.setattr(cls, attribute, sums)
    meta = folder / cls.meta["filename"]
    meta.write_bytes(pickle.dumps({cls.meta["key"]: list(map(str, range(n_classes)))}))
    patch.setattr(cls, "meta", {**cls.meta, "md5": md5(meta)})
    return np.concatenate(written[:-1])


def svhn(root: Path, patch: Any) -> np.ndarray:
    splits = dict(datasets.SVHN.split_list)
    for split in ("test", "train"):
        url, name, _ = splits[split]
        x = images(32, 32, 3, 20)
        savemat(root / name, {"X": x, "y": np.arange(20)[:, None] % 10 + 1})
        splits[split] = [url, name, md5(root / name)]
    patch.setattr(datasets.SVHN, "split_list", splits)
    return x.transpose(3, 2, 0, 1)


def emnist(root: Path, patch: Any) -> np.ndarray:
    raw = root / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    for split in ("test", "train"):
        x, y = images(94, 28, 28), np.arange(94, dtype=np.uint8) % 47
        for array, kind in ((x, "images-idx3"), (y, "labels-idx1")):
            header = np.array([0x0800 + array.ndim, *array.shape], ">u4").tobytes()
            (raw / f"emnist-balanced-{split}-{kind}-ubyte").write_bytes(
                header + array.tobytes()
            )
    return x.swapaxes(1, 2)[:, None]


def usps(root: Path, patch: Any) -> np.ndarray:
    splits = dict(datasets.USPS.split_list)
    for split in ("test", "train"):
        url, name, _ = splits[split]
        x = images(20, 256)
        lines = [
            f"{k % 10 + 1} "
            + " ".join(f"{i + 1}:{v / 127.5 - 1:.6f}" for i, v in enumerate(row))
            for k, row in enumerate(x)
        ]
        (root / name).write_bytes(bz2.compress("\n".join(lines).encode()))
        splits[split] = [url, name, md5(root / name)]
    patch.setattr(datasets.USPS, "split_list", splits)
    return x.reshape(-1, 1, 16, 16)


WRITERS = {
    "cifar10": lambda root, patch: cifar(root, patch, 10),
    "cifar100": lambda root, patch: cifar(root, patch, 100),
    "svhn": svhn,
    "emnist": emnist,
    "usps": usps,
}


@pytest.mark.parametrize("name", NAMES)
def test_the_images_are_those_of_the_files(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = WRITERS[name](tmp_path, monkeypatch)
    data, source = load_images(name, tmp_path), SOURCES[name]
    assert data.shape == source.shape and data.is_bytes
    assert len(data.class_names) == len(source.class_names)
    difference = data.train_x.numpy().astype(int) - expected
    assert abs(difference).max() <= (1 if name == "usps" else 0)  # which has decimals
    assert data.train_labels[:3].tolist() == (
        [1, 2, 3] if name == "svhn" else [0, 1, 2]
    )
    benchmark = split_mnist(
        dataset=name, data_dir=str(tmp_path), n_experiences=1, normalize="standard"
    )
    info = benchmark.info
    assert info.image_shape == source.shape
    assert info.in_features == int(np.prod(source.shape))
    assert info.n_outputs == len(source.class_names)


def test_emnist_has_torchvisions_classes() -> None:
    expected = datasets.EMNIST.classes_split_dict["balanced"]
    assert list(SOURCES["emnist"].class_names) == expected


@pytest.mark.parametrize("name", NAMES)
def test_offline_without_data_is_one_sentence(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = "http://127.0.0.1:9/"
    cls = getattr(datasets, SOURCES[name].torchvision_name)
    if name in ("svhn", "usps"):
        lists = {k: [nowhere, *v[1:]] for k, v in cls.split_list.items()}
        monkeypatch.setattr(cls, "split_list", lists)
    else:
        monkeypatch.setattr(cls, "url", nowhere)
    with pytest.raises(ValueError, match="could not be downloaded") as error:
        load_images(name, tmp_path / "data")
    assert SOURCES[name].title in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "data").exists()
    with pytest.raises(ValueError, match="does not come with kancl: give data_dir="):
        load_images(name)


def test_an_altered_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usps(tmp_path, monkeypatch)
    file = tmp_path / datasets.USPS.split_list["test"][1]
    text = bz2.decompress(file.read_bytes())
    file.write_bytes(bz2.compress(text.replace(b"1:", b"2:")))
    with pytest.raises(ValueError, match="USPS in .* is damaged or missing.*md5"):
        load_images("usps", tmp_path)


def test_colour_images_are_turned_channel_by_channel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kancl.benchmarks import rotated_mnist
    from kancl.data.rows import as_tensors

    cifar(tmp_path, monkeypatch, 10)
    benchmark = rotated_mnist(
        dataset="cifar10", data_dir=str(tmp_path), n_experiences=2, max_angle=90
    )
    straight, turned = (as_tensors(e.dataset)[0] for e in benchmark.test_stream)
    assert torch.equal(turned, torch.rot90(straight, dims=(2, 3)))
