"""Gradient episodic memory, as Avalanche has it."""

from __future__ import annotations

from dataclasses import dataclass

from avalanche.training.plugins import GEMPlugin as AvalancheGEMPlugin

from kancl.config.values import Count, NonNegative
from kancl.plugins.plugin import Needs, Plugin, Stage
from kancl.plugins.rehearsal.rehearsal_plugin import CLASSES


@dataclass(kw_only=True, eq=False)
class GEMPlugin(Plugin, AvalancheGEMPlugin):
    """Project the gradient off a rise of the loss on any past experience (GEM).

    The nearest gradient whose product with each past experience's is not negative: a
    quadratic program per iteration.

    Args:
        patterns_per_experience: samples kept of each experience.
        memory_strength: margin that favours backward transfer.
    Source: Lopez-Paz and Ranzato 2017, arXiv:1706.08840, eqs. 8-11. Avalanche's
        GEMPlugin, unchanged.
    """

    stage = Stage.REHEARSAL
    state = ("memory_x", "memory_y", "memory_tid", "G")
    needs = Needs(class_labels=CLASSES)

    patterns_per_experience: Count = 256
    memory_strength: NonNegative = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = self.patterns_per_experience, self.memory_strength
        AvalancheGEMPlugin.__init__(self, *sizes)
