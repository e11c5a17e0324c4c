"""From what a plugin keeps to plain data, and back."""

import random
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks.utils import AvalancheDataset
from torch import Tensor

_AS_IT_IS = (type(None), bool, int, float, str, torch.device)


class Unresumable(ValueError):
    """Something can't be part of a state, or a state does not fit the run."""


def to_state(value: Any, name: str) -> Any:
    """Return plain data: numbers, strings, tensors, lists, tuples, sets and dicts.

    Random generators give their state, other objects their ``state_dict()``. Data sets
    stay: whoever writes the state tells them by experience and row.

    Raises: Unresumable with ``name`` for anything else, iterators among it.
    """
    if type(value) in _AS_IT_IS or isinstance(value, AvalancheDataset):
        return value
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, torch.Generator):
        return value.get_state()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, Mapping):
        return {key: to_state(part, f"{name}.{key}") for key, part in value.items()}
    if isinstance(value, (list, tuple, deque, set, frozenset)):
        kind = type(value) if type(value) in (tuple, set) else list
        return kind(to_state(part, name) for part in value)
    if hasattr(value, "state_dict") and hasattr(value, "load_state_dict"):
        return value.state_dict()
    kind_of = "an iterator" if isinstance(value, Iterator) else "an object"
    raise Unresumable(
        f"{name} is {kind_of} ({type(value).__name__}) that no state can hold"
    )


def from_state(live: Any, state: Any) -> Any:
    """Return what ``to_state`` made the state of, into the live object if there is one."""
    if isinstance(live, torch.Generator):
        live.set_state(state.cpu())
    elif isinstance(live, np.ndarray):
        return state.numpy()
    elif isinstance(live, Mapping):
        merged = {key: from_state(live.get(key), part) for key, part in state.items()}
        if not isinstance(live, dict):
            return merged
        live.clear()
        live.update(merged)
    elif isinstance(live, (deque, frozenset)):
        return type(live)(state)
    elif not isinstance(live, Tensor) and hasattr(live, "load_state_dict"):
        live.load_state_dict(state)
    else:
        return state
    return live


def n_bytes(value: Any, seen: set[int]) -> int:
    """Count the bytes of tensors and samples, each storage once.

    Args:
        seen: addresses of storages that count no more; those counted are added.
    """
    if isinstance(value, Tensor):
        storage = value.untyped_storage()
        if storage.data_ptr() in seen:
            return 0
        seen.add(storage.data_ptr())
        return int(storage.nbytes())
    if isinstance(value, AvalancheDataset):  # as the tensors they are, copied or not
        sample = value[0] if len(value) else ()
        return len(value) * sum(torch.as_tensor(part).nbytes for part in sample)
    if hasattr(value, "state_dict"):
        value = value.state_dict()
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, (list, tuple, deque, set)):
        return 0
    return sum(n_bytes(part, seen) for part in value)


def random_state(device: torch.device | None = None) -> dict[str, Any]:
    """The random streams of Python, NumPy and torch as they are now.

    Args:
        device: whose stream is taken beside the CPU's; None: those of all GPUs in use.
    """
    cuda = [torch.cuda.get_rng_state(card) for card in _cards(device)]
    numpy = to_state(list(np.random.get_state()), "numpy")
    streams = {"numpy": numpy, "python": random.getstate()}
    return {"torch": torch.get_rng_state(), "cuda": cuda, **streams}


def restore_random_state(
    state: Mapping[str, Any], device: torch.device | None = None
) -> None:
    torch.set_rng_state(state["torch"].cpu())
    for stream, card in zip(state["cuda"], _cards(device)):
        torch.cuda.set_rng_state(stream.cpu(), card)
    kind, words, *rest = state["numpy"]
    np.random.set_state((kind, words.numpy(), *rest))
    random.setstate(state["python"])


def _cards(device: torch.device | None) -> Iterable[Any]:
    if device is not None:
        return [device] if device.type == "cuda" else []
    return range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)


@contextmanager
def random_streams_kept() -> Iterator[None]:
    """Whatever is drawn inside, the random streams are then as they were."""
    state = random_state()
    try:
        yield
    finally:
        restore_random_state(state)
