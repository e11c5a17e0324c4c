"""Whole runs on a device: what they wait for, take and leave, alone and side by side."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import product
from math import inf
from pathlib import Path
from typing import Any

import torch

from kancl.bench.device_steps import at_most, row
from kancl.bench.harness import Row, finished_run, verdict

LONGEST_RUN = 5.0
"""Seconds at most of a Split MNIST run after start-up: 5 experiences, 1 epoch each."""
NEVER_WAITING = "naive ewc si mas lwf replay gram".split()


def waits(device: str, small: bool) -> Iterator[Row]:
    """Whole iterations, with torch told to raise where the host waits for the device."""
    from kancl.plugins import Plugin
    from kancl.runner.build import build, build_strategy
    from kancl.runner.request.compose import read_request

    class Watch(Plugin):
        """Look at everything from the first iteration of an epoch to its last."""

        def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            torch.cuda.set_sync_debug_mode("error")

        def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
            torch.cuda.set_sync_debug_mode("default")

    models = ["model=kan model.hidden=[8]", "model=kan_local model.hidden=[8]"]
    strategies = NEVER_WAITING[:1] if small else NEVER_WAITING
    for model, strategy in product(models, strategies):
        cut = (
            "scenario.n_experiences=2 scenario.train_samples=256 training.iterations=20"
        )
        words = f"{model} {cut} scenario.test_samples=20 strategy={strategy}".split()
        words += ["strategy.structure=blocks"] if strategy == "gram" else []
        (config,) = read_request([*words, f"device={device}"], sweep=False).configs
        parts = build(config)
        trained = build_strategy(config, parts, [Watch()])
        said = "none"
        try:
            for experience in parts.benchmark.train_stream:
                trained.train(experience)
        except RuntimeError as error:
            said = " ".join(str(error).split())[:120]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        what = f"waits in an epoch, {words[0]}, {strategy}"
        yield row(what, said, "none", verdict(said == "none"))


def runs(device: str, small: bool) -> Iterator[Row]:
    """Whole runs; the first of each starts the device up."""
    variants = product(
        ("split_mnist", "permuted_mnist"),
        ("model=kan", "model=mlp match=params", "model=kan_local"),
    )
    for scenario, model in [("split_mnist", "model=kan")] if small else variants:
        words = [f"scenario={scenario}", *model.split(), f"device={device}"]
        words += _words(True)[2:] if small else []
        _, last = (finished_run([*words, f"seed={k}"]) for k in (0, 1))
        seconds = last["train_seconds"] + last["eval_seconds"]
        peak = last.get("peak_memory_bytes", 0) / 2**20
        shown = f"{seconds:.2f} s, ACC {last['average_accuracy']:.3f}, {peak:.0f} MiB"
        most = LONGEST_RUN if scenario == "split_mnist" else inf
        yield at_most(device, f"a run of {scenario}, {model}", seconds, most, shown)


FIRST_STEP = """
import time; start = time.perf_counter()
import torch
from kancl import KAN
x = torch.rand(64, 784, device="{device}")
network = KAN([784, 64, 10]).to("{device}")
network(x).sum().backward()
float(network.layers[0].coefficients.grad.sum())
print(time.perf_counter() - start)
"""


def cold(device: str, small: bool) -> Iterator[Row]:
    """From the start of Python to the end of the first step, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "TRITON_CACHE_DIR": folder}
        command = [sys.executable, "-c", FIRST_STEP.format(device=device)]
        for cache in ("compiling kernels", "kernels compiled before"):
            done = subprocess.run(
                command, check=True, capture_output=True, text=True, env=environment
            )
            yield row(
                f"first step of a process, {cache}", f"{float(done.stdout):.1f} s"
            )


def memory(device: str, small: bool) -> Iterator[Row]:
    """What a run takes: its tensors, and the process as a whole."""
    free, total = torch.cuda.mem_get_info(device)
    used = (total - free - torch.cuda.memory_reserved(device)) / 2**20
    yield row(
        "memory of the process beside its tensors, and of others", f"{used:.0f} MiB"
    )
    for batch in (64, 1024):
        words = [*_words(small), f"training.batch_size={batch}", f"device={device}"]
        peak = finished_run(words)["peak_memory_bytes"] / 2**20
        yield row(f"peak of a run's tensors, batch {batch}", f"{peak:.0f} MiB")


def resume(device: str, small: bool) -> Iterator[Row]:
    """A run whose process is killed, begun again: the same bytes as a whole one's."""
    words = ["keep_model=true", "checkpoint.every_iterations=5", *_words(small)]
    with tempfile.TemporaryDirectory() as folder:
        run = _command(device, [*words, f"log_dir={folder}/whole"])
        subprocess.run(run, check=True, capture_output=True)
        again = _command(device, [*words, f"log_dir={folder}/killed"])
        process = subprocess.Popen(again, stdout=subprocess.DEVNULL)
        while not list(Path(folder).glob("killed/**/checkpoint/*")):
            if process.poll() is not None:
                break
            time.sleep(0.05)
        process.kill()
        process.wait()
        subprocess.run(again, check=True, capture_output=True)
        whole, killed = (
            next(Path(folder, name).rglob("model.pt")).read_bytes()
            for name in ("whole", "killed")
        )
    said = "the same bytes" if whole == killed else "other bytes"
    yield row("a killed run, resumed", said, "the same bytes", verdict(whole == killed))


def processes(device: str, small: bool) -> Iterator[Row]:
    """Runs at a time on one device, each in a process of its own."""
    alone = 0.0
    for n in (1, 2) if small else (1, 4, 8):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            started = [
                subprocess.Popen(
                    _command(
                        device, [*_words(small), f"seed={k}", f"log_dir={folder}/{k}"]
                    ),
                    stdout=subprocess.DEVNULL,
                )
                for k in range(n)
            ]
            failed = sum(process.wait() != 0 for process in started)
            seconds = time.perf_counter() - start
        alone = alone or seconds
        shown = (
            f"{seconds:.1f} s in all, {n * alone / seconds:.2f} times the runs per hour"
        )
        what = f"{n} processes, a run each, start included"
        yield row(what, shown, "none fails", verdict(not failed))


def _words(small: bool) -> list[str]:
    """A run of Split MNIST, cut to seconds if so asked."""
    cut = "scenario.train_samples=100 scenario.test_samples=50 tensorboard=none"
    return ["scenario=split_mnist", "model=kan", *(cut.split() if small else [])]


def _command(device: str, words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "kancl", "run", "-q", *words, f"device={device}"]
