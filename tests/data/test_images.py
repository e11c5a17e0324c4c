"""Reading data sets: real MNIST files, whole, truncated, altered, missing."""

import functools
import gzip
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torchvision import datasets

import kancl.data
from kancl.data.images import SOURCES, load_images

SHIPPED = Path(kancl.data.__file__).parent / "mnist"
FASHION = Path("/usr/share/datasets/fashion-mnist")  # Debian: dataset-fashion-mnist
NAMES = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
]


def torchvision_folder(
    data_dir: Path, source: Path, dataset: str = "MNIST", unpacked: bool = False
) -> Path:
    """A folder in torchvision's layout; returns where its files lie."""
    raw = data_dir / dataset / "raw"
    raw.mkdir(parents=True)
    for name in NAMES:
        if unpacked:
            (raw / name).write_bytes(
                gzip.decompress((source / f"{name}.gz").read_bytes())
            )
        else:
            shutil.copy(source / f"{name}.gz", raw)
    return raw


@pytest.fixture
def no_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Port 9 of this machine, where nothing answers, instead of every mirror."""
    for source in filter(lambda source: source.md5, SOURCES.values()):
        dataset = getattr(datasets, source.torchvision_name)
        monkeypatch.setattr(dataset, "mirrors", ["http://127.0.0.1:9/"])


def test_shipped_mnist_is_mnist() -> None:
    mnist = load_images()
    assert mnist.train_x.shape == (60_000, 1, 28, 28)
    assert mnist.test_x.shape == (10_000, 1, 28, 28)
    assert mnist.train_x.dtype == torch.uint8
    # counts of the digits as published with the data set
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert mnist.train_labels.bincount().tolist() == counts
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert mnist.test_labels.bincount().tolist() == counts
    assert mnist.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert (SHIPPED / "LICENSE").is_file()


def test_mean_and_std_are_those_of_the_training_pixels() -> None:
    mnist = load_images()
    pixels = mnist.train_x.double() / 255
    assert mnist.mean == pytest.approx(pixels.mean().item(), abs=1e-4)
    assert mnist.std == pytest.approx(pixels.std().item(), abs=1e-4)


@pytest.mark.parametrize("unpacked", [False, True])
def test_torchvision_folder_gives_what_torchvision_reads(
    tmp_path: Path, unpacked: bool
) -> None:
    torchvision_folder(tmp_path, SHIPPED, unpacked=unpacked)
    ours = load_images("mnist", tmp_path)
    assert torch.equal(ours.train_x, load_images().train_x)
    if unpacked:
        theirs = datasets.MNIST(tmp_path, train=False)
        assert torch.equal(ours.test_x.squeeze(1), theirs.data)
        assert torch.equal(ours.test_labels, theirs.targets)


@pytest.mark.parametrize("name", NAMES[2:])
def test_truncated_gz_is_refused_by_name(tmp_path: Path, name: str) -> None:
    file = torchvision_folder(tmp_path, SHIPPED) / f"{name}.gz"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=f"{name}.gz is damaged.*delete it") as error:
        load_images("mnist", tmp_path)
    assert str(file) in str(error.value)
    assert error.value.__suppress_context__


@pytest.mark.parametrize("name", NAMES[2:])
def test_truncated_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    file = torchvision_folder(tmp_path, SHIPPED, unpacked=True) / name
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=f"{name} is damaged: expected .* bytes"):
        load_images("mnist", tmp_path)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("unpacked", [False, True])
def test_one_altered_byte_is_refused(tmp_path: Path, name: str, unpacked: bool) -> None:
    raw = torchvision_folder(tmp_path, SHIPPED, unpacked=unpacked)
    file = raw / (name if unpacked else f"{name}.gz")
    content = bytearray(
        file.read_bytes() if unpacked else gzip.decompress(file.read_bytes())
    )
    content[5000] ^= 1
    file.write_bytes(content if unpacked else gzip.compress(content, 0))
    with pytest.raises(ValueError, match=f"{file.name} is damaged or altered.*md5"):
        load_images("mnist", tmp_path)


def test_wrong_header_is_refused(tmp_path: Path) -> None:
    raw = torchvision_folder(tmp_path, SHIPPED, "KMNIST", unpacked=True)
    labels = raw / "t10k-labels-idx1-ubyte"
    labels.write_bytes(b"\0\0\x08\x03" + labels.read_bytes()[4:])
    with pytest.raises(ValueError, match="t10k-labels-idx1-ubyte is damaged.*IDX"):
        load_images("kmnist", tmp_path)


def test_impossible_label_is_refused_where_nobody_publishes_an_md5(
    tmp_path: Path,
) -> None:
    raw = torchvision_folder(tmp_path, SHIPPED, "KMNIST", unpacked=True)
    labels = raw / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\x0a")
    with pytest.raises(ValueError, match="train-labels-idx1-ubyte.*label 10"):
        load_images("kmnist", tmp_path)


def test_one_data_set_in_the_place_of_another_is_refused(tmp_path: Path) -> None:
    torchvision_folder(tmp_path, SHIPPED, "FashionMNIST", unpacked=True)
    with pytest.raises(ValueError, match="train-images-idx3-ubyte.*md5 f4a8712d"):
        load_images("fashion_mnist", tmp_path)


def test_kmnist_gz_is_checked_by_torchvisions_md5(tmp_path: Path) -> None:
    torchvision_folder(tmp_path, SHIPPED, "KMNIST")
    md5 = datasets.KMNIST.resources[0][1]
    with pytest.raises(ValueError, match=f"train-images-idx3-ubyte.gz.*md5 {md5}"):
        load_images("kmnist", tmp_path)


@pytest.mark.skipif(
    not FASHION.is_dir(), reason="Debian package dataset-fashion-mnist not installed"
)
def test_fashion_mnist_from_a_folder(tmp_path: Path) -> None:
    torchvision_folder(tmp_path, FASHION, "FashionMNIST")
    fashion = load_images("fashion_mnist", tmp_path)
    assert fashion.train_labels.bincount().tolist() == [6000] * 10
    assert fashion.test_labels.bincount().tolist() == [1000] * 10
    assert fashion.class_names == tuple(datasets.FashionMNIST.classes)
    pixels = fashion.train_x.double() / 255
    assert fashion.mean == pytest.approx(pixels.mean().item(), abs=1e-4)
    assert fashion.std == pytest.approx(pixels.std().item(), abs=1e-4)


@pytest.mark.parametrize("dataset", [k for k, s in SOURCES.items() if s.md5])
def test_offline_without_data_is_one_sentence(
    tmp_path: Path, dataset: str, no_internet: None, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(ValueError, match="could not be downloaded") as error:
        load_images(dataset, tmp_path)
    message = str(error.value)
    source = SOURCES[dataset]
    assert source.title in message
    assert str(tmp_path / source.torchvision_name / "raw") in message
    assert "connect to the internet, or put the files there" in message
    assert "\n" not in message
    assert error.value.__suppress_context__
    assert capsys.readouterr().out == ""


def test_one_missing_file_is_named(tmp_path: Path, no_internet: None) -> None:
    raw = torchvision_folder(tmp_path, SHIPPED)
    (raw / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(ValueError, match=r"\(t10k-labels-idx1-ubyte missing\)"):
        load_images("mnist", tmp_path)


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """The address of a web server on this machine that has the four files."""
    raw = torchvision_folder(tmp_path / "mirror", SHIPPED)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(raw))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_missing_files_are_downloaded(
    tmp_path: Path, mirror: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.MNIST, "mirrors", [mirror])
    # packed otherwise than at the usual mirrors: no md5 of the packed files
    resources = [(f"{name}.gz", None) for name in NAMES]
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    images = load_images("mnist", tmp_path / "empty")
    assert torch.equal(images.test_labels, load_images().test_labels)


def test_download_of_something_else_is_refused(
    tmp_path: Path, mirror: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.KMNIST, "mirrors", [mirror])
    with pytest.raises(ValueError, match="KMNIST is not in .* could not be downloaded"):
        load_images("kmnist", tmp_path / "empty")


def test_data_that_do_not_come_with_kancl_need_a_folder() -> None:
    with pytest.raises(
        ValueError, match="Fashion-MNIST does not come with kancl: give"
    ):
        load_images("fashion_mnist")


def test_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(ValueError, match="Did you mean 'fashion_mnist'?"):
        load_images("fashionmnist")
    with pytest.raises(ValueError, match="'cifar' is unknown; expected one of mnist"):
        load_images("cifar")
