"""Images of past experiences as tensors, drawn batch by batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kancl.data.rows import as_tensors
from kancl.plugins.rehearsal.memory import GroupedExemplars


class ExemplarMemory:
    """Hold the exemplars of past experiences on the device and draw batches of them.

    Batches walk through a random permutation and a new one is drawn when the rest is
    too short, so that all exemplars are seen equally often.

    Args:
        total: images kept in all, or
        per_class: images kept of each class of each experience.
    Raises: ValueError if both or neither is given, or a size is below 1.
    """

    def __init__(
        self, *, total: int | None = None, per_class: int | None = None
    ) -> None:
        self.exemplars = GroupedExemplars(total=total, per_group=per_class)
        self._order = torch.empty(0, dtype=torch.long)
        self._x = self._y = self._task_labels = torch.empty(0)

    def __len__(self) -> int:
        return len(self._x)

    def add(self, dataset: Any, device: torch.device) -> None:
        """Let the images of one more experience compete for their places."""
        self.exemplars.update_from_dataset(dataset)
        x, y, task_labels = as_tensors(self.exemplars.buffer)
        self._x, self._y = x.to(device), y.to(device)
        self._task_labels = task_labels.to(device)
        self._order = torch.empty(0, dtype=torch.long)

    def draw(self, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return images, targets and task labels of ``n`` exemplars (all, if fewer)."""
        n = min(n, len(self))
        if len(self._order) < n:
            self._order = torch.randperm(len(self))
        rows, self._order = self._order[:n], self._order[n:]
        rows = rows.to(self._x.device)
        return self._x[rows], self._y[rows], self._task_labels[rows]
