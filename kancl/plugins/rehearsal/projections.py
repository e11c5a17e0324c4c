"""Gradient episodic memory: never step against the past, or not on average."""

from dataclasses import dataclass
from typing import Any

import torch
from avalanche.models import avalanche_forward
from avalanche.training.plugins import GEMPlugin as AvalancheGEMPlugin

from kancl.config.values import Count, NonNegative
from kancl.plugins.penalties.anchor import trainable
from kancl.plugins.plugin import Needs, Plugin, Stage
from kancl.plugins.rehearsal.memory import CLASSES, RehearsalPlugin


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


class AGEMPlugin(RehearsalPlugin):
    """Project the gradient off a rise of the loss on kept samples (A-GEM).

    With ``g_ref`` the gradient on exemplars: if ``g . g_ref < 0``, ``g <- g - (g .
    g_ref / g_ref . g_ref) g_ref``.

    Source: Chaudhry et al. 2019, arXiv:1812.00420, eq. 11. differs from Avalanche,
        which draws equally from each experience (and so fails once there are more
        experiences than ``sample_size``) and keeps a live generator.
    """

    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        if not len(self.memory):
            return
        x, y, task_labels = self.draw(strategy)
        parameters = list(trainable(strategy.model).values())
        loss = strategy._criterion(avalanche_forward(strategy.model, x, task_labels), y)
        reference = torch.autograd.grad(loss, parameters, allow_unused=True)
        pairs = [(p, r) for p, r in zip(parameters, reference) if r is not None]
        along = sum(float((p.grad * r).sum()) for p, r in pairs if p.grad is not None)
        if along >= 0:
            return
        step = along / sum(float((r * r).sum()) for _, r in pairs)
        for p, r in pairs:  # a head of the past has no gradient of its own
            p.grad = -step * r if p.grad is None else p.grad - step * r
