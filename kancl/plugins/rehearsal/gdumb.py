"""GDumb's greedy balanced memory, which stands in for the data."""

from __future__ import annotations

from typing import Any

from kancl.plugins.plugin import Needs
from kancl.plugins.rehearsal.rehearsal_plugin import CLASSES, MemoryPlugin


class MemoryOnlyPlugin(MemoryPlugin):
    """Train on a balanced memory alone; each experience joins it before its training.

    Source: Prabhu, Torr, Dokania 2020, "GDumb", ECCV, algorithm 1; no cosine schedule,
        no cutmix. differs from Avalanche's GDumbPlugin in leaving the model itself alone
        (it is replaced by a copy there, under whoever holds it); ``FromScratchPlugin``
        puts its weights back.
    """

    state = ("exemplars",)
    needs = Needs(
        class_labels=CLASSES,
        alone="it trains anew on its memory alone, so there is nothing left to protect; "
        "use strategy=gdumb by itself instead",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.exemplars = self.exemplars_to_keep()

    def after_train_dataset_adaptation(self, strategy: Any, **kwargs: Any) -> None:
        self.exemplars.update_from_dataset(strategy.experience.dataset)
        strategy.adapted_dataset = self.exemplars.buffer
