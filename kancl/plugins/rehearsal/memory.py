"""Which samples of past experiences a rehearsal method keeps, and how it draws them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.training.storage_policy import (
    BalancedExemplarsBuffer,
    ReservoirSamplingBuffer,
)
from torch import Tensor

from kancl.config.values import Count, convert
from kancl.data.rows import as_tensors
from kancl.plugins.plugin import Needs, Plugin, Stage, TrainingSetup

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

    By target alone, the two targets of a domain-incremental stream would be two groups
    however many digits they stand for.

    Args:
        total: samples kept in all, divided equally over the groups so far.
        per_group: samples kept of each group, instead of ``total``.
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
    state: ClassVar[tuple[str, ...]] = ("exemplars",)
    needs = Needs(class_labels=CLASSES)

    mem_size: Count = 1000
    mem_per_class: Count | None = None
    exemplars: GroupedExemplars = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        total = self.mem_size if self.mem_per_class is None else None
        self.exemplars = GroupedExemplars(total=total, per_group=self.mem_per_class)


@dataclass(kw_only=True, eq=False)
class RehearsalPlugin(MemoryPlugin):
    """Keep samples of each experience when its training ends, and draw batches of them.

    Batches walk through a random permutation and a new one is drawn when the rest is
    too short, so that all samples are seen equally often.

    Args:
        replay_batch_size: samples drawn per iteration; null: as many as the batch size.
    """

    state = ("exemplars", "_order")
    transient = ("_samples", "_device")

    replay_batch_size: Count | None = None
    _order: Tensor = field(default_factory=partial(torch.empty, 0), init=False)
    """What is left of the permutation, on the device."""
    _device: torch.device = field(default=torch.device("cpu"), init=False)
    _samples: tuple[Tensor, ...] = field(default=(), init=False)

    def prepare(self, setup: TrainingSetup) -> None:
        self._device = torch.device(setup.device)

    @property
    def n_kept(self) -> int:
        return self._samples[0].shape[0] if self._samples else 0

    def draw(self, strategy: Any, n: int | None = None) -> tuple[Tensor, ...]:
        """Return inputs, targets and task labels of ``n`` samples (all, if fewer)."""
        n_kept = self.n_kept
        n = min(n or self.replay_batch_size or strategy.train_mb_size, n_kept)
        if self._order.shape[0] < n:
            order = torch.randperm(n_kept)
            self._order = order.to(self._device, non_blocking=True)
        rows, self._order = self._order[:n], self._order[n:]
        return tuple(part.index_select(0, rows) for part in self._samples)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self.exemplars.update_from_dataset(strategy.experience.dataset)
        self._order = torch.empty(0)
        self._gather()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._order = self._order.to(self._device)
        if self.exemplars.buffer_groups:
            self._gather()

    def _gather(self) -> None:
        parts = as_tensors(self.exemplars.buffer)
        self._samples = tuple(part.to(self._device) for part in parts)
