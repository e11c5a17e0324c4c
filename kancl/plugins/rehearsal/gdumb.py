"""GDumb's greedy balanced memory, which stands in for the data."""

from __future__ import annotations

from typing import Any

from avalanche.training.plugins import SupervisedPlugin

from kancl.plugins.rehearsal.memory import GroupedExemplars


class MemoryOnlyPlugin(SupervisedPlugin):
    """Train on the exemplars alone; each experience joins them before its training.

    Args:
        exemplars: the memory.
    Source: Prabhu, Torr, Dokania 2020, "GDumb", ECCV, algorithm 1. differs from
        Avalanche's GDumbPlugin in leaving the model itself alone (it is replaced by a
        copy there, under whoever holds it); ``FromScratchPlugin`` puts its weights
        back.
    """

    def __init__(self, exemplars: GroupedExemplars) -> None:
        super().__init__()
        self.exemplars = exemplars

    def after_train_dataset_adaptation(self, strategy: Any, **kwargs: Any) -> None:
        self.exemplars.update_from_dataset(strategy.experience.dataset)
        strategy.adapted_dataset = self.exemplars.buffer
