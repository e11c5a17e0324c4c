"""Strategies that keep images of past experiences."""

from __future__ import annotations

from typing import Literal

from avalanche.training.templates import SupervisedTemplate

from kancl.plugins.exemplar_memory import ExemplarMemory
from kancl.plugins.replay import ReplayPlugin
from kancl.strategies.setup import TrainingSetup


def memory(mem_size: int, mem_per_class: int | None) -> ExemplarMemory:
    """Make the memory that ``mem_size`` or, where given, ``mem_per_class`` asks for."""
    if mem_per_class is not None:
        return ExemplarMemory(per_class=mem_per_class)
    return ExemplarMemory(total=mem_size)


def replay(
    setup: TrainingSetup,
    *,
    mem_size: int = 1000,
    mem_per_class: int | None = None,
    replay_batch_size: int | None = None,
    weighting: Literal["images", "experiences"] = "images",
) -> SupervisedTemplate:
    """Train on a batch of kept images beside every current batch (experience replay, ER).

    ``L = w * L_current + (1 - w) * L_replayed``, ``w`` the current share of all images
    (``weighting="images"``) or 1/t in the t-th experience (``"experiences"``, van de Ven).

    Args:
        mem_size: images kept in all, divided equally over the classes of the experiences so far.
        mem_per_class: images kept of each class of each experience, instead of ``mem_size``.
        replay_batch_size: images replayed per iteration; null: as many as the batch size.
    Source: Rolnick et al. 2019, arXiv:1811.11682, section 3; van de Ven et al. 2022. differs from Avalanche's: see
        ``ReplayPlugin`` and ``GroupedExemplars``.
    """
    return setup.build(
        plugins=[
            ReplayPlugin(memory(mem_size, mem_per_class), replay_batch_size, weighting)
        ]
    )
