"""The machine under a run: its device, its memory, and numbers too small for it."""

import gc
import os
import random
import re
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kancl.config import ConfigError, RunConfig
from kancl.config.schema import CHOICES, GROUPS
from kancl.threads import thread_lock

OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
"""Messages of torch's allocator on a CPU, and of CUDA's libraries, in a plain RuntimeError."""

LEAST_PER_RUN, MOST_PER_CARD = 4 * 2**30, 8
"""Bytes of a GPU for each of several runs at least (CUDA alone takes half a GiB of them);
runs on one GPU at most."""

# Just below 32 MiB, the most that glibc adapts to.
LARGEST_KEPT_BYTES = 31 * 2**20

_TURN = thread_lock()
_frozen = False  # read and set by who has the turn
_DETERMINISM: Any = torch.utils.deterministic  # a module with properties


@contextmanager
def taking_turns() -> Iterator[None]:
    """Inside, no other thread of the process makes a run: they share the generators of
    random numbers. These, torch's threads and its choice of algorithms are left as they
    were found, and no memory is left behind.
    """
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with _TURN, _collecting(), torch.random.fork_rng(devices=gpus):
        numbers = random.getstate(), np.random.get_state()
        n_threads = torch.get_num_threads()
        deterministic = torch.are_deterministic_algorithms_enabled()
        filled = _DETERMINISM.fill_uninitialized_memory
        try:
            yield
        finally:
            random.setstate(numbers[0])
            np.random.set_state(numbers[1])
            torch.set_num_threads(n_threads)
            torch.use_deterministic_algorithms(deterministic)
            _DETERMINISM.fill_uninitialized_memory = filled


@contextmanager
def _collecting() -> Iterator[None]:
    """Free what was made inside and is only held by itself, as Avalanche's streams and
    experiences hold each other; what was there before is not looked through.
    """
    global _frozen
    # To count frozen objects takes as long as to look through them.
    freezes = not _frozen and gc.get_freeze_count() == 0
    if freezes:
        gc.freeze()
        _frozen = True
    try:
        yield
    finally:
        gc.collect()
        if freezes:
            gc.unfreeze()
            _frozen = False


def resolve_device(name: str) -> torch.device:
    """Raises: ConfigError if a GPU is asked for that is not there."""
    n_cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if n_cards else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= n_cards:
        there = f"{n_cards} GPU{'s' * (n_cards > 1)}" if n_cards else "no GPU"
        other = f"cuda:{n_cards - 1}" if n_cards else "cpu"
        why = f"torch finds {there} here; nearest: device={other}"
        raise ConfigError(f"device={name}: {why}")
    return device


@dataclass(frozen=True)
class Places:
    """How many runs a machine makes at a time, and on how many GPUs."""

    processes: int
    n_cards: int = 0  # 0: on the CPU
    card_bytes: int = 0  # of the smallest
    per_card: int = 1  # runs on one GPU

    @property
    def share(self) -> float:
        """The part of a GPU that each run has; 0 on the CPU."""
        return 1 / self.per_card if self.n_cards else 0

    def __str__(self) -> str:
        where = f"{self.n_cards} GPU{'s' * (self.n_cards > 1)}"
        size = self.share * self.card_bytes / 2**30
        return (
            f"at most {self.processes} runs at a time on {where}, {size:.1f} GiB each"
        )


def places(devices: Collection[str], threads: int) -> Places:
    """A run per core; on GPUs, where each is a process with a context of its own, no
    more than have ``LEAST_PER_RUN`` of memory each.

    Args:
        devices: those that the runs ask for.
    """
    from joblib import cpu_count  # late: layers are timed without it

    processes = max(1, cpu_count() // threads)
    on_gpu = {d for d in map(resolve_device, devices) if d.type == "cuda"}
    if not on_gpu:
        return Places(processes)
    every = any(device.index is None for device in on_gpu)
    n_cards = torch.cuda.device_count() if every else len(on_gpu)
    cards = range(n_cards) if every else on_gpu
    size = min(torch.cuda.get_device_properties(c).total_memory for c in cards)
    per_card = min(max(1, size // LEAST_PER_RUN), MOST_PER_CARD)
    return Places(min(processes, n_cards * per_card), n_cards, size, per_card)


def take_card(number: int, n_cards: int) -> None:
    """Let this process, before it computes on a GPU, see one of them.

    Args:
        number: of its first run.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(n_cards)))
    cards = named.split(",")
    os.environ["CUDA_VISIBLE_DEVICES"] = cards[number % len(cards)]


def be_deterministic(wanted: bool) -> None:
    """Allow torch deterministic algorithms alone, or whichever is fastest.

    Source: torch's notes on reproducibility; cuBLAS reads its variable when a process
        first uses it, and one that is set already stays.
    """
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted)
    # Torch would fill memory that is written anyhow: one more kernel for each.
    _DETERMINISM.fill_uninitialized_memory = not wanted


def keep_freed_memory() -> None:
    """Have glibc keep freed blocks instead of handing them back to the system.

    A training step on a CPU frees and allocates the same megabytes over and over, whose
    pages are faulted in anew each time, until a larger block is freed and glibc adapts
    (``M_MMAP_THRESHOLD`` in ``mallopt(3)``). So free one, untouched: steps of
    KAN([784, 64, 10]) at batch 64 took 13 ms without and 8 ms with it.
    """
    torch.empty(LARGEST_KEPT_BYTES, dtype=torch.uint8, device="cpu")


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Denormal numbers are 0 inside, in the calling thread; outside as before.

    Adam's moments of a unit or class that is no longer trained shrink until they are
    denormal (1e-38 in float32), and cost a CPU some hundred cycles each: an MLP's steps
    on the last digits of Split MNIST took 7 times as long as on the first. Next to
    Adam's ``eps`` they count for nothing: whole runs end with the same bits.
    """
    for kind in (np.float32, np.float64):
        np.finfo(kind)  # asked for the first time inside, NumPy warns
    half = torch.tensor(torch.finfo(torch.float32).tiny) * 0.5
    before = not bool(half > 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@contextmanager
def refusing(config: RunConfig) -> Iterator[None]:
    """Raise ConfigError for values that can't work, or that do not fit the memory."""
    try:
        yield
    except (ValueError, RuntimeError, MemoryError) as error:
        said = " ".join(str(error).split())
        if is_out_of_memory(error):
            said = f"{_what_to_change(config)} ({said[:200]})"
        elif not isinstance(error, ValueError):
            raise
        else:
            said = _with_key(said, config)
        raise ConfigError(said) from error


def _with_key(said: str, config: RunConfig) -> str:
    """What a builder says of its arguments, with the keys that set them: those of names
    before an equals sign or at the beginning, or else of a value that is named.
    """
    keys = {
        f"{g}.{k}": v for g in GROUPS for k, v in getattr(config, g).options.items()
    }
    keys["data_dir"] = config.data_dir
    for name, n in Counter(key.partition(".")[2] for key in keys).items():
        if name and n == 1:
            (key,) = (key for key in keys if key.partition(".")[2] == name)
            said = re.sub(rf"(?<![\w.(]){re.escape(name)}(?==)", key, said)
    start = re.match(r"[\w.]*", said)
    word = start[0] if start else ""
    if called := [key for key in keys if key.partition(".")[2] == word]:
        return called[0] + said[len(word) :] if len(called) == 1 else said
    if word in keys or "." in word or word in CHOICES:
        return said
    # A tuple or a path: a word of the message may be another value by chance.
    telling = [k for k, v in keys.items() if isinstance(v, tuple) or "/" in str(v)]
    named = [key for key in telling if str(keys[key]) in said]
    return f"{named[0]}: {said}" if len(named) == 1 else said


def in_words(error: Exception, config: RunConfig) -> str:
    """The error, and what to change if the memory was too small for the run."""
    said = f"{type(error).__name__}: {error}"
    return f"{_what_to_change(config)} ({said})" if is_out_of_memory(error) else said


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a CPU or a GPU."""
    if isinstance(error, RuntimeError):
        is_gpu = isinstance(error, torch.OutOfMemoryError)
        return is_gpu or any(sign in str(error).lower() for sign in OUT_OF_MEMORY)
    return isinstance(error, MemoryError)


def _what_to_change(config: RunConfig) -> str:
    """One sentence: the keys of this run that memory depends on, largest first."""
    training, options = config.training, config.strategy.options
    eval_size, mem_size = training.eval_batch_size, options.get("mem_size")
    ways = {
        "strategy.structure=blocks or low_rank": options.get("structure") == "full",
        f"training.batch_size below {training.batch_size}": True,
        f"training.eval_batch_size below {eval_size}": eval_size is not None,
        f"strategy.mem_size below {mem_size}": mem_size,
        "evaluation.locality=false": config.evaluation.locality,
        "a smaller model, or fewer runs at once on the device": True,
    }
    helpful = ", ".join(way for way, helps in ways.items() if helps)
    return f"out of memory; try {helpful}"
