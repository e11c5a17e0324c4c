"""Grids that follow samples, where several processes train one network."""

import torch
import torch.distributed as dist
from torch import Tensor

from kancl.splines.modes import several_processes


def all_samples(x: Tensor) -> Tensor:
    """The samples of all processes, by rank; ``x`` itself if there is one process.

    All processes of the default group have to call it.

    Shape: ``(n, in_features)``, ``n`` of each process its own.
    """
    if not several_processes():
        return x
    count = torch.tensor([len(x)], device=x.device)
    counts = [torch.empty_like(count) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, count)
    sizes = [int(n) for n in counts]
    padded = x.new_zeros(max(sizes), x.shape[1])
    padded[: len(x)] = x.detach()
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return torch.cat([part[:n] for part, n in zip(parts, sizes)])


def as_in_first(*tensors: Tensor) -> None:
    """Overwrite tensors, of equal shapes in all processes, with those of rank 0."""
    if several_processes():
        for tensor in tensors:
            dist.broadcast(tensor, 0)
