"""From a data set that Avalanche has put together back to the rows it was made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.benchmarks.utils.flat_data import FlatData
from torch import Tensor

from kancl.data.rows import ImageRows, integers


@dataclass(frozen=True, eq=False)
class LeafRows:
    """Where each sample of a data set comes from.

    Args:
        leaf: of each sample, its place in ``leaves``, ``(n,)``.
        position: its row there, ``(n,)``.
        others: by name, what samples carry beside target and task label (DER's logits).
    """

    leaves: tuple[ImageRows, ...]
    leaf: Tensor
    position: Tensor
    others: dict[str, list[Any]]


def leaf_rows(dataset: AvalancheDataset) -> LeafRows | None:
    """The leaves of a data set and the rows taken of them; None for foreign data."""
    leaves: dict[int, tuple[int, ImageRows]] = {}
    places = _places(dataset._flat_data, leaves)
    if places is None:
        return None
    others = {
        attribute.name: [attribute[i] for i in range(len(dataset))]
        for attribute in dataset._data_attributes.values()
        if attribute.use_in_getitem and attribute.name != "targets_task_labels"
    }
    leaf, position = torch.from_numpy(places.astype(np.int32))
    return LeafRows(tuple(leaf for _, leaf in leaves.values()), leaf, position, others)


def _places(data: Any, leaves: dict[int, tuple[int, ImageRows]]) -> np.ndarray | None:
    """``(2, n)``: leaf and row of each sample of a tree; leaves are added as met."""
    if isinstance(data, ImageRows):
        number, _ = leaves.setdefault(id(data), (len(leaves), data))
        return np.stack([np.full(len(data), number), np.arange(len(data))])
    if not isinstance(data, FlatData):
        return None
    parts = [_places(part, leaves) for part in data._datasets]
    found = [part for part in parts if part is not None]
    if len(found) < len(parts):
        return None
    places = np.concatenate(found, 1) if found else np.empty((2, 0), dtype=np.int64)
    return places if data._indices is None else places[:, integers(data._indices)]
