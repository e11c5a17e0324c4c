"""Which samples of past experiences a rehearsal method keeps, and how it draws them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.training.storage_policy import (
    BalancedExemplarsBuffer,
    ReservoirSamplingBuffer,
)
from torch import Tensor

from kancl.config.values import Count, convert
from kancl.data.rows import as_tensors
from kancl.plugins.plugin import Needs, Plugin, Stage

CLASSES = (
    "it keeps samples by class; use strategy=l2_anchor, strategy=si or strategy=mas "
    "instead"
)


class ResumableBuffer(BalancedExemplarsBuffer):
    """Avalanche's buffer in groups, with its samples and random keys as a state."""

    def state_dict(self) -> dict[str, Any]:
        groups = {
            key: {
                "max_size": group.max_size,
                "samples": group.buffer,
                "keys": group._buffer_weights,
            }
            for key, group in self.buffer_groups.items()
        }
        seen = list(getattr(self, "seen_classes", ()))
        return {"max_size": self.max_size, "groups": groups, "seen_classes": seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.max_size = state["max_size"]
        self.buffer_groups = {}
        for key, kept in state["groups"].items():
            group = ReservoirSamplingBuffer(kept["max_size"])
            group._buffer, group._buffer_weights = kept["samples"], kept["keys"]
            self.buffer_groups[key] = group
        if hasattr(self, "seen_classes"):
            self.seen_classes = set(state["seen_classes"])


class GroupedExemplars(ResumableBuffer):
    """Keep a random sample of every (experience, target) seen, equally large.

    Grouping by experience *and* target gives every class its share in class-, domain-
    and task-incremental learning alike; by target alone, the two targets of a
    domain-incremental stream would be two groups however many digits they stand for.

    Args:
        total: samples kept in all, divided equally over the groups so far.
        per_group: samples kept of each group, whatever their number. Give one of the
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
        size = total or per_group or 0
        convert(size, Count, "buffer size")
        super().__init__(max_size=size)
        self.per_group = per_group

    def post_adapt(self, agent: Any, exp: Any) -> None:
        """Add the samples of ``exp``, cut the others down to their share."""
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


class ExemplarMemory:
    """Hold the exemplars of past experiences on the device and draw batches of them.

    Batches walk through a random permutation and a new one is drawn when the rest is
    too short, so that all exemplars are seen equally often.

    Args:
        exemplars: those to draw from; more join them by ``add``.
    """

    def __init__(self, exemplars: GroupedExemplars) -> None:
        self.exemplars = exemplars
        self._order = torch.empty(0, dtype=torch.long)
        self._x = self._y = self._task_labels = torch.empty(0)
        self._device = torch.device("cpu")

    def __len__(self) -> int:
        return len(self._x)

    def add(self, dataset: Any, device: torch.device) -> None:
        """Let the samples of one more experience compete for their places."""
        self.exemplars.update_from_dataset(dataset)
        self._order = torch.empty(0, dtype=torch.long)
        self._device = device
        self._gather()

    def draw(self, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return inputs, targets and task labels of ``n`` exemplars (all, if fewer)."""
        n = min(n, len(self))
        if len(self._order) < n:
            self._order = torch.randperm(len(self))
        rows, self._order = self._order[:n], self._order[n:]
        rows = rows.to(self._x.device)
        return self._x[rows], self._y[rows], self._task_labels[rows]

    def state_dict(self) -> dict[str, Any]:
        exemplars = self.exemplars.state_dict()
        return {"exemplars": exemplars, "order": self._order, "device": self._device}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.exemplars.load_state_dict(state["exemplars"])
        self._order, self._device = state["order"].cpu(), state["device"]
        if self.exemplars.buffer_groups:
            self._gather()

    def _gather(self) -> None:
        parts = as_tensors(self.exemplars.buffer)
        self._x, self._y, self._task_labels = (p.to(self._device) for p in parts)


@dataclass(kw_only=True, eq=False)
class MemoryPlugin(Plugin):
    """Keep samples, by experience and class.

    Args:
        mem_size: samples kept in all, divided equally over the classes of the
            experiences so far.
        mem_per_class: samples kept of each class of each experience, instead of
            ``mem_size``.
    """

    stage = Stage.REHEARSAL
    needs = Needs(class_labels=CLASSES)

    mem_size: Count = 1000
    mem_per_class: Count | None = None

    def exemplars_to_keep(self) -> GroupedExemplars:
        """Make the memory that the keys ask for."""
        if self.mem_per_class is not None:
            return GroupedExemplars(per_group=self.mem_per_class)
        return GroupedExemplars(total=self.mem_size)


@dataclass(kw_only=True, eq=False)
class RehearsalPlugin(MemoryPlugin):
    """Keep samples of each experience when its training ends, and draw batches of them.

    Args:
        replay_batch_size: samples drawn per iteration; null: as many as the batch size.
    """

    state = ("memory",)

    replay_batch_size: Count | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.memory = ExemplarMemory(self.exemplars_to_keep())

    def draw(self, strategy: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return inputs, targets and task labels of a batch of exemplars."""
        return self.memory.draw(self.replay_batch_size or strategy.train_mb_size)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self.memory.add(strategy.experience.dataset, torch.device(strategy.device))
