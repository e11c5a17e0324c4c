"""Which images of past experiences a rehearsal strategy keeps."""

from __future__ import annotations

from typing import Any

import torch
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.training.storage_policy import (
    BalancedExemplarsBuffer,
    ReservoirSamplingBuffer,
)

from kancl.plugins.hyperparameters import at_least


class GroupedExemplars(BalancedExemplarsBuffer):
    """Keep a random sample of every (experience, target) seen, equally large.

    Grouping by experience *and* target gives every class its share in class-, domain-
    and task-incremental learning alike; by target alone, the two targets of a
    domain-incremental stream would be two groups however many digits they stand for.

    Args:
        total: images kept in all, divided equally over the groups so far.
        per_group: images kept of each group, whatever their number. Give one of the
            two.
    Raises: ValueError if both or neither is given, or a size is below 1.
    Source: differs from Avalanche's ClassBalancedBuffer in the grouping alone.
    """

    def __init__(
        self, *, total: int | None = None, per_group: int | None = None
    ) -> None:
        if (total is None) == (per_group is None):
            raise ValueError(
                "give the size of the buffer either in all or per class, "
                f"got total={total} and per_group={per_group}"
            )
        super().__init__(max_size=at_least("buffer size", total or per_group or 0))
        self.per_group = per_group

    def post_adapt(self, agent: Any, exp: Any) -> None:
        """Add the images of ``exp``, cut the others down to their share."""
        self.update_from_dataset(exp.dataset)

    def update_from_dataset(self, dataset: AvalancheDataset) -> None:
        """Add ``dataset`` as one more experience."""
        experience = 1 + max((key[0] for key in self.buffer_groups), default=-1)
        targets = torch.as_tensor(list(dataset.targets))
        for target in targets.unique().tolist():
            group = ReservoirSamplingBuffer(len(targets))
            rows = (targets == target).nonzero().flatten().tolist()
            group.update_from_dataset(dataset.subset(rows))
            self.buffer_groups[(experience, target)] = group
        if self.per_group is not None:
            self.max_size = self.per_group * len(self.buffer_groups)
        self.resize(None, self.max_size)
