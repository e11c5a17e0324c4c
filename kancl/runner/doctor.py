"""What can be wrong with a machine before any run, and what to do about it.

Each check yields what it examined, how that is, and a remedy, empty if nothing is wrong.
"""

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import cpu_count
from packaging.requirements import Requirement
from rich.console import Console

from kancl.data.images import load_images
from kancl.models import KAN
from kancl.runner.registry import GROUPS
from kancl.runner.request.compose import read_request
from kancl.runner.run import run
from kancl.runs import RunLocked, run_lock, write_whole
from kancl.splines import gpu

Findings = Iterator[tuple[str, str, str]]
USUAL: list[tuple[list[int], dict[str, Any]]] = [
    ([784, 64, 10], {"enable_standalone_scale_spline": False}),
    (
        [784, 256, 10],
        {"base": False, "anchor": 0.0, "input_anchor": 0.0, "input_grid_size": 1}
        | {"input_spline_order": 1, "enable_standalone_scale_spline": False},
    ),
]
"""The layers of ``model=kan`` and ``model=kan_local`` on images of 28 x 28 pixels."""
SPEED_BYTES, SLOW, ROOM = 16 * 2**20, 10e6, 200 * 2**20
"""Bytes written for a try; bytes per second below which checkpoints get in the way; bytes
that have to be free."""
TINY = (
    *"scenario.train_samples=32 scenario.test_samples=16 scenario.n_experiences=2".split(),
    *"training.batch_size=16 evaluation.samples=8 tensorboard=numbers".split(),
    "model.hidden=[4]",
)


def examine(log_dir: str, data_dir: str | None = None) -> bool:
    """Print a line for each finding; True if nothing is wrong."""
    start, wrong = time.perf_counter(), 0
    machine = _packages(), _combinations(), _device(), _kernels()
    place = _data(data_dir), _disk(Path(log_dir)), _models()
    for subject, state, remedy in chain(*machine, *place):
        wrong += bool(remedy)
        print(f"{'!!' if remedy else 'ok'} {subject:15} {state}", flush=True)
        if remedy:
            print(f"   -> {remedy}", flush=True)
    verdict = f"{wrong} to be mended" if wrong else "all is well"
    print(f"{verdict} ({time.perf_counter() - start:.0f} s)")
    return not wrong


def _packages() -> Findings:
    """Compare what is installed with what kancl's metadata asks for."""
    yield "python", platform.python_version(), ""  # pip refuses one that is too old
    try:
        requirements = requires("kancl") or []
    except PackageNotFoundError:  # imported from a checkout
        requirements = ["kancl"]
    for needed in map(Requirement, requirements):
        if needed.marker is None or needed.marker.evaluate({"extra": ""}):
            remedy = f"pip install '{needed.name}{needed.specifier}'"
            found = "not installed"
            with suppress(PackageNotFoundError):
                found = version(needed.name)
                remedy *= not needed.specifier.contains(found, prereleases=True)
            yield needed.name, found, remedy


def _combinations() -> Findings:
    """Try pairs that are known to fail together."""
    bad = ""
    try:
        torch.from_numpy(np.zeros(1))
    except RuntimeError as error:
        bad = f"torch was built for another NumPy ({error}): pip install -U torch"
        yield "together", "known to fail", bad
    try:
        from torchvision.ops import nms

        nms(torch.tensor([[0.0, 0, 1, 1]]), torch.ones(1), 0.5)
    except (ImportError, RuntimeError) as error:
        bad = f"torch and torchvision are of different releases ({error}): "
        yield "together", "known to fail", bad + "install both at once, from the same index"
    if not bad:
        yield "together", "no combination that is known to fail", ""


def _device() -> Findings:
    yield "CPU", f"{cpu_count()} cores; a run takes 1 (threads=1)", ""
    if torch.cuda.is_available():
        free, total = (n / 2**30 for n in torch.cuda.mem_get_info())
        state = f"{torch.cuda.get_device_name()}, {free:.1f} of {total:.1f} GiB free"
        remedy = "other processes fill the GPU: end them, or set device=cpu"
        yield "GPU", state, remedy * (free < 1)
    elif shutil.which("nvidia-smi"):
        remedy = "install a torch that is built for the GPU's driver (pytorch.org)"
        yield "GPU", "there, but torch cannot use it", remedy
    else:
        yield "GPU", "none; device=auto takes the CPU", ""


def _kernels() -> Findings:
    """Compile a GPU's kernels for the usual networks, and compare what they compute."""
    if not torch.cuda.is_available():
        return
    if why := gpu.why_not(1, 1):
        yield "kernels", f"dense sums, which are slower: {why}", ""
        return
    start, worst = time.perf_counter(), 0.0
    try:
        for layers, options in USUAL:
            torch.manual_seed(0)
            network = KAN(layers, **options).to("cuda")
            x = torch.rand(64, layers[0], device="cuda")
            results = []
            for implementation in ("triton", "dense"):
                for layer in network.layers:
                    layer.implementation = implementation
                y = network(x)
                gradients = torch.autograd.grad(y.sum(), [*network.parameters()])
                results.append([y, *gradients])
            for ours, exact in zip(*results):
                error = (ours - exact).abs().max() / exact.abs().max()
                worst = max(worst, float(error.detach()))
    except Exception as error:  # whatever a driver or compiler comes up with
        said = " ".join(str(error).split())[:200]
        remedy = "set model.implementation=dense, and report this"
        yield "kernels", f"{type(error).__name__}: {said}", remedy
        return
    seconds = time.perf_counter() - start
    state = f"compiled in {seconds:.1f} s, off by {worst:.0e} of the largest value"
    remedy = "set model.implementation=dense, and report this"
    yield "kernels", state, remedy * (not worst < 1e-4)


def _data(data_dir: str | None) -> Findings:
    state = f"MNIST {data_dir or 'in the package'}"
    try:
        images = load_images("mnist", data_dir)
        n = f"{len(images.train_labels):,} + {len(images.test_labels):,}"
        yield "data", f"{state}: {n} images, checksums right", ""
    except ValueError as error:
        yield "data", state, " ".join(str(error).split())


def _disk(log_dir: Path) -> Findings:
    folder = log_dir / ".doctor"
    try:
        start = time.perf_counter()
        write_whole(folder / "speed", os.urandom(SPEED_BYTES))
        speed = SPEED_BYTES / (time.perf_counter() - start)
        remedy = "set log_dir to a local disk, or checkpoint.every_seconds=300"
        state = f"{log_dir}: {speed / 1e6:.0f} MB/s written for good"
        yield "disk", state, remedy * (speed < SLOW)
        free = shutil.disk_usage(folder).free
        remedy = "make room, or set log_dir to another disk"
        yield "room", f"{free / 2**30:.1f} GiB free", remedy * (free < ROOM)
        try:
            with run_lock(folder), run_lock(folder):
                remedy = "start one kancl at a time, or set log_dir elsewhere"
                yield "locks", "not held", f"no locks here: {remedy}"
        except RunLocked:
            yield "locks", "held", ""
    except OSError as error:
        yield "disk", f"{log_dir}: not writable", str(error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _models() -> Findings:
    """Make a run of each, presets too, from its configuration to its folder."""
    with tempfile.TemporaryDirectory() as folder:
        for model in GROUPS["model"].names:
            words = [*TINY, f"model={model}", f"log_dir='{folder}'"]
            (config,) = read_request(words, sweep=False).configs
            start = time.perf_counter()
            summary = run(config, console=Console(quiet=True), quiet=True)
            seconds = time.perf_counter() - start
            state = f"a tiny run {summary['status']} in {seconds:.1f} s"
            remedy = ""
            if summary["status"] != "completed":
                said = summary.get("error", "")
                remedy = f"run kancl run model={model} and report its error.txt: {said}"
            yield f"model={model}", state, remedy
