"""What can be wrong with a machine before any run, and what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from kancl.data.images import load_images
from kancl.models import MODELS
from kancl.runner.request.compose import read_request
from kancl.runner.run import run
from kancl.runner.studies.engines import n_cores
from kancl.runs import RunLock, RunLocked, WriteError, write_whole

NEEDED = {  # package: (lowest version, what for)
    "torch": ((2, 9), "everything"),
    "torchvision": ((0, 24), "everything"),
    "avalanche-lib": ((0, 6), "strategies"),
    "numpy": ((1, 26), "everything"),
    "hydra-core": ((1, 3), "configurations"),
    "tensorboard": ((2, 15), "pictures"),
    "scipy": ((1, 15), "statistics"),
    "quadprog": ((0, 1), "strategy=gem"),
    "numba": ((0, 60), "fast KANs on a CPU"),
}
SPEED_BYTES = 16 * 2**20
SLOW = 10e6
"""Bytes per second below which checkpoints get in the way."""
ROOM = 200 * 2**20
TINY = (
    *"scenario.train_samples=32 scenario.test_samples=16 scenario.n_experiences=2".split(),
    *"training.batch_size=16 evaluation.samples=8 tensorboard=numbers".split(),
    "model.hidden=[4]",
)


@dataclass(frozen=True)
class Finding:
    """One line.

    Args:
        remedy: what to do; empty if nothing is wrong.
    """

    what: str
    found: str
    remedy: str = ""


def examine(log_dir: str, data_dir: str | None = None) -> bool:
    """Print a line for each thing looked at; True if nothing is wrong."""
    checks: list[Callable[[], Iterator[Finding]]] = [
        _versions,
        _combinations,
        _device,
        lambda: _data(data_dir),
        lambda: _disk(Path(log_dir)),
        _models,
    ]
    start, wrong = time.perf_counter(), 0
    for check in checks:
        for finding in check():
            wrong += bool(finding.remedy)
            mark = "!!" if finding.remedy else "ok"
            print(f"{mark} {finding.what:15} {finding.found}", flush=True)
            if finding.remedy:
                print(f"   -> {finding.remedy}", flush=True)
    seconds = time.perf_counter() - start
    verdict = f"{wrong} to be mended" if wrong else "all is well"
    print(f"{verdict} ({seconds:.0f} s)")
    return not wrong


def _versions() -> Iterator[Finding]:
    python = platform.python_version()
    old = tuple(map(int, platform.python_version_tuple()[:2])) < (3, 10)
    yield Finding("python", python, "kancl needs Python 3.10 or newer" * old)
    for package, (lowest, purpose) in NEEDED.items():
        wanted = ".".join(map(str, lowest))
        remedy = f"pip install '{package}>={wanted}' ({purpose})"
        found = _version(package)
        if found is None:
            yield Finding(package, "not installed", remedy)
        else:
            yield Finding(package, found, remedy * (_numbers(found) < lowest))


def _combinations() -> Iterator[Finding]:
    """Pairs that are known to fail together, each tried."""
    bad = []
    old = _numbers(_version("tensorboard") or "0") < (2, 20)
    if old and _numbers(_version("setuptools") or "0") >= (81,):
        bad.append(
            "tensorboard below 2.20 needs pkg_resources, which setuptools 81 has no "
            "more: pip install 'tensorboard>=2.20'"
        )
    try:
        torch.from_numpy(np.zeros(1))
    except RuntimeError as error:
        bad.append(f"torch was built for another NumPy ({error}): pip install -U torch")
    try:
        from torchvision.ops import nms

        nms(torch.tensor([[0.0, 0, 1, 1]]), torch.ones(1), 0.5)
    except (ImportError, RuntimeError) as error:
        bad.append(
            f"torch and torchvision are of different releases ({error}): install both at "
            "once, from the same index"
        )
    if not bad:
        yield Finding("together", "no combination that is known to fail")
    for remedy in bad:
        yield Finding("together", "known to fail", remedy)


def _device() -> Iterator[Finding]:
    yield Finding("CPU", f"{n_cores()} cores; a run takes 1 (threads=1)")
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        free, total = torch.cuda.mem_get_info()
        remedy = "other processes fill the GPU: end them, or set device=cpu"
        found = f"{name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        yield Finding("GPU", found, remedy * (free < 2**30))
    elif shutil.which("nvidia-smi"):
        remedy = "install a torch that is built for the GPU's driver (pytorch.org)"
        yield Finding("GPU", "there, but torch cannot use it", remedy)
    else:
        yield Finding("GPU", "none; device=auto takes the CPU")


def _data(data_dir: str | None) -> Iterator[Finding]:
    where = data_dir or "in the package"
    try:
        images = load_images("mnist", data_dir)
    except ValueError as error:
        yield Finding("data", f"MNIST {where}", " ".join(str(error).split()))
        return
    n = len(images.train_labels), len(images.test_labels)
    yield Finding("data", f"MNIST {where}: {n[0]:,} + {n[1]:,} images, checksums right")


def _disk(log_dir: Path) -> Iterator[Finding]:
    folder = log_dir / ".doctor"
    try:
        start = time.perf_counter()
        write_whole(folder / "speed", os.urandom(SPEED_BYTES))
        speed = SPEED_BYTES / (time.perf_counter() - start)
        slow = "set log_dir to a local disk, or checkpoint.every_seconds=300"
        found = f"{log_dir}: {speed / 1e6:.0f} MB/s written for good"
        yield Finding("disk", found, slow * (speed < SLOW))
        free = shutil.disk_usage(folder).free
        remedy = "make room, or set log_dir to another disk"
        yield Finding("room", f"{free / 2**30:.1f} GiB free", remedy * (free < ROOM))
        with RunLock(folder):
            try:
                with RunLock(folder):
                    held = False
            except RunLocked:
                held = True
        remedy = "no locks here: start one kancl at a time, or set log_dir elsewhere"
        yield Finding("locks", "held" if held else "not held", remedy * (not held))
    except (WriteError, OSError) as error:
        yield Finding("disk", f"{log_dir}: not writable", str(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _models() -> Iterator[Finding]:
    """A run of each, from its configuration to its folder."""
    with tempfile.TemporaryDirectory() as folder:
        for model in MODELS:
            words = [*TINY, f"model={model}", f"log_dir='{folder}'"]
            (config,) = read_request(words, sweep=False).configs
            start = time.perf_counter()
            summary = run(config, console=Console(quiet=True), quiet=True)
            seconds = time.perf_counter() - start
            remedy = f"run kancl run model={model} and report its error.txt: "
            remedy += str(summary.get("error", ""))
            good = summary["status"] == "completed"
            found = f"a tiny run {summary['status']} in {seconds:.1f} s"
            yield Finding(f"model={model}", found, "" if good else remedy)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    """The leading whole numbers of a version."""
    numbers: Sequence[str] = text.replace("+", ".").split(".")
    found: list[int] = []
    for part in numbers:
        if not part.isdigit():
            break
        found.append(int(part))
    return tuple(found) or (0,)
