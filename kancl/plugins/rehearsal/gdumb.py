"""GDumb's greedy balanced memory, which stands in for the data."""

from __future__ import annotations

from typing import Any

from kancl.plugins.hyperparameters import at_least
from kancl.plugins.plugin import Needs, Plugin, Stage
from kancl.plugins.rehearsal.memory import GroupedExemplars
from kancl.plugins.rehearsal.rehearsal_plugin import CLASSES


class MemoryOnlyPlugin(Plugin):
    """Train on a balanced memory alone; each experience joins it before its training.

    Args:
        mem_size: samples kept in all, divided equally over the classes of the
            experiences so far, current ones included.
        mem_per_class: samples kept of each class of each experience, instead of
            ``mem_size``.
    Source: Prabhu, Torr, Dokania 2020, "GDumb", ECCV, algorithm 1; no cosine schedule,
        no cutmix. differs from Avalanche's GDumbPlugin in leaving the model itself alone
        (it is replaced by a copy there, under whoever holds it); ``FromScratchPlugin``
        puts its weights back.
    """

    stage = Stage.REHEARSAL
    state = ("exemplars",)
    needs = Needs(
        class_labels=CLASSES,
        alone="it trains anew on its memory alone, so there is nothing left to protect; "
        "use strategy=gdumb by itself instead",
    )

    def __init__(
        self, *, mem_size: int = 1000, mem_per_class: int | None = None
    ) -> None:
        super().__init__()
        self.mem_size, self.mem_per_class = mem_size, mem_per_class
        if mem_per_class is None:
            self.exemplars = GroupedExemplars(total=at_least("mem_size", mem_size))
        else:
            per_group = at_least("mem_per_class", mem_per_class)
            self.exemplars = GroupedExemplars(per_group=per_group)

    def after_train_dataset_adaptation(self, strategy: Any, **kwargs: Any) -> None:
        self.exemplars.update_from_dataset(strategy.experience.dataset)
        strategy.adapted_dataset = self.exemplars.buffer
