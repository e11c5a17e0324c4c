"""What is kept of an experience's samples to draw like ones: moments, no sample."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

State = Mapping[str, Any]


@torch.no_grad()
def moments(
    x: Tensor, y: Tensor, task_labels: Tensor, rank: int | None = None
) -> dict[str, Any]:
    """Class means and a factor of the covariance within classes, as plain data.

    Args:
        rank: of the covariance that is kept, the directions of largest variance; None:
            all.
    Raises: ValueError for samples of several tasks.
    """
    tasks = task_labels.unique().tolist()
    if len(tasks) != 1:
        raise ValueError(f"samples of one task were expected, got those of {tasks}")
    rows = x.flatten(1)
    classes, numbers, counts = y.unique(return_inverse=True, return_counts=True)
    sums = rows.new_zeros(len(classes), rows.shape[1]).index_add_(0, numbers, rows)
    means = sums / counts[:, None]
    apart = rows - means[numbers]
    variances, directions = torch.linalg.eigh(apart.T @ apart / len(rows))
    most = len(variances) if rank is None else min(rank, len(variances))
    spread = variances[-most:].clamp(min=0).sqrt()
    return {
        "classes": classes.cpu(),
        "means": means.cpu(),
        "factor": (directions[:, -most:] * spread).cpu(),
        "shape": list(x.shape[1:]),
        "range": [float(x.min()), float(x.max())],
        "task": tasks[0],
    }


def drawn(state: State, n: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """``n`` samples ``(x, y, task_labels)``, classes in turn, within the range seen.

    Normal around the class's mean; the same for the same seed.
    """
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.arange(n) % len(state["classes"])
    noise = torch.randn(n, state["factor"].shape[1], generator=generator)
    x = state["means"][numbers] + noise @ state["factor"].T
    x = x.clamp(*state["range"]).view(n, *state["shape"])
    y = state["classes"][numbers]
    return x, y, torch.full_like(y, state["task"])
