"""Averaged gradient episodic memory: never step against the past, on average."""

from __future__ import annotations

from typing import Any

import torch
from avalanche.models import avalanche_forward

from kancl.plugins.penalties.quadratic_anchor import trainable
from kancl.plugins.rehearsal.rehearsal_plugin import RehearsalPlugin


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
