"""What methods with a memory of samples share: its size, its batches, its growth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kancl.config.values import Count
from kancl.plugins.plugin import Needs, Plugin, Stage
from kancl.plugins.rehearsal.memory import ExemplarMemory, GroupedExemplars

CLASSES = (
    "it keeps samples by class; use strategy=l2_anchor, strategy=si or strategy=mas "
    "instead"
)


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
