"""What cannot work, and memory that ran out: one sentence that says what to change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from kancl.config import ConfigError, RunConfig

_SIGNS = ("can't allocate memory", "not enough memory", "out of memory")
"""Of torch's allocator on a CPU, and of CUDA's libraries, in a plain RuntimeError."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a CPU or a GPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        sign in str(error).lower() for sign in _SIGNS
    )


@contextmanager
def refusing(config: RunConfig) -> Iterator[None]:
    """Raise ConfigError for values that can't work, or that do not fit the memory."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(" ".join(str(error).split())) from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        said = " ".join(str(error).split())[:200]
        raise ConfigError(f"{what_to_change(config)} ({said})") from error


def what_to_change(config: RunConfig) -> str:
    """One sentence: the keys of this run that memory depends on, largest first."""
    training = config.training
    ways = [f"training.batch_size below {training.batch_size}"]
    if config.strategy.options.get("structure") == "full":
        ways.insert(0, "strategy.structure=blocks or low_rank")
    if training.eval_batch_size is not None:
        ways.append(f"training.eval_batch_size below {training.eval_batch_size}")
    if config.strategy.options.get("mem_size"):
        ways.append(f"strategy.mem_size below {config.strategy.options['mem_size']}")
    if config.evaluation.locality:
        ways.append("evaluation.locality=false")
    ways.append("a smaller model, or fewer runs at once on the device")
    return f"out of memory; try {', '.join(ways)}"
