"""Training anew in each experience: from the first weights, or on a memory alone."""

from collections import defaultdict
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from kancl.plugins.plugin import Needs, Plugin, Stage
from kancl.plugins.rehearsal.memory import CLASSES, MemoryPlugin


class FromScratchPlugin(Plugin):
    """Train each experience alone, from the initial weights ("separate").

    The optimizer's state is forgotten too. Weights are copied in place. What a growing
    head adds later starts as it was made. Floating-point buffers (grids, running
    statistics) belong to the weights and go back too; integer ones are a head's
    book-keeping and stay.

    Source: the single-task reference of Lopez-Paz and Ranzato 2017, arXiv:1706.08840.
        differs from Avalanche's FromScratchTrainingPlugin, which leaves grids as they
        are, saves weights before heads exist and calls a deprecated function.
    """

    stage = Stage.RESET
    state = ("_initial",)
    needs = Needs(
        fixed_grids="it puts the first weights back, which don't fit a grid that has "
        "changed; leave grow_grids out instead"
    )

    def __init__(self) -> None:
        super().__init__()
        self._initial: dict[str, Tensor] = {}

    @torch.no_grad()
    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        model = strategy.model
        for name, tensor in chain(model.named_parameters(), model.named_buffers()):
            if name in self._initial:
                tensor.copy_(self._initial[name])
            elif tensor.is_floating_point():
                self._initial[name] = tensor.detach().clone()
        strategy.optimizer.state = defaultdict(dict)


class MemoryOnlyPlugin(MemoryPlugin):
    """Train on a balanced memory alone; each experience joins it before its training.

    Source: Prabhu, Torr, Dokania 2020, "GDumb", ECCV, algorithm 1; no cosine schedule,
        no cutmix. differs from Avalanche's GDumbPlugin in leaving the model itself alone
        (it is replaced by a copy there, under whoever holds it); ``FromScratchPlugin``
        puts its weights back.
    """

    needs = Needs(
        class_labels=CLASSES,
        alone="it trains anew on its memory alone, so there is nothing left to protect; "
        "use strategy=gdumb by itself instead",
    )

    def after_train_dataset_adaptation(self, strategy: Any, **kwargs: Any) -> None:
        self.exemplars.update_from_dataset(strategy.experience.dataset)
        strategy.adapted_dataset = self.exemplars.buffer
