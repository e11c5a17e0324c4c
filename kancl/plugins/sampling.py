"""Samples of an experience, drawn apart from training's random stream."""

from __future__ import annotations

import torch
from avalanche.benchmarks.utils import AvalancheDataset


def drawn(
    dataset: AvalancheDataset, n: int | None, generator: torch.Generator
) -> AvalancheDataset:
    """Return ``n`` samples drawn at random; all of them for None, or if there are fewer."""
    if n is None or n >= len(dataset):
        return dataset
    order = torch.randperm(len(dataset), generator=generator)
    return dataset.subset(order[:n].tolist())
