"""What methods with a memory of samples share: its size, its batches, its growth."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kancl.plugins.hyperparameters import at_least
from kancl.plugins.plugin import Needs, Plugin, Stage
from kancl.plugins.rehearsal.memory import ExemplarMemory

CLASSES = (
    "it keeps samples by class; use strategy=l2_anchor, strategy=si or strategy=mas "
    "instead"
)


class RehearsalPlugin(Plugin):
    """Keep samples of each experience when its training ends.

    Args:
        mem_size: samples kept in all, divided equally over the classes of the
            experiences so far.
        mem_per_class: samples kept of each class of each experience, instead of
            ``mem_size``.
        replay_batch_size: samples drawn per iteration; null: as many as the batch size.
    Raises: ValueError if a size is below 1.
    """

    stage = Stage.REHEARSAL
    state = ("memory",)
    needs = Needs(class_labels=CLASSES)

    def __init__(
        self, mem_size: int, mem_per_class: int | None, replay_batch_size: int | None
    ) -> None:
        super().__init__()
        self.mem_size, self.mem_per_class = mem_size, mem_per_class
        self.replay_batch_size = replay_batch_size
        if mem_per_class is None:
            self.memory = ExemplarMemory(total=at_least("mem_size", mem_size))
        else:
            per_class = at_least("mem_per_class", mem_per_class)
            self.memory = ExemplarMemory(per_class=per_class)
        if replay_batch_size is not None:
            at_least("replay_batch_size", replay_batch_size)

    def draw(self, strategy: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return inputs, targets and task labels of a batch of exemplars."""
        return self.memory.draw(self.replay_batch_size or strategy.train_mb_size)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self.memory.add(strategy.experience.dataset, torch.device(strategy.device))
