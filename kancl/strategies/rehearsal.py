"""Strategies that keep images of past experiences."""

from __future__ import annotations

from typing import Literal

from avalanche.training.plugins import GEMPlugin
from avalanche.training.supervised.der import DER
from avalanche.training.supervised.er_ace import ER_ACE
from avalanche.training.templates import SupervisedTemplate

from kancl.plugins.hyperparameters import at_least, non_negative
from kancl.plugins.rehearsal.agem import AGEMPlugin
from kancl.plugins.rehearsal.asymmetric_loss import asymmetric_cross_entropy
from kancl.plugins.rehearsal.exemplar_memory import ExemplarMemory
from kancl.plugins.rehearsal.from_scratch import FromScratchPlugin
from kancl.plugins.rehearsal.gdumb import MemoryOnlyPlugin
from kancl.plugins.rehearsal.mir import MIRPlugin
from kancl.plugins.rehearsal.replay import ReplayPlugin
from kancl.strategies.setup import TrainingSetup


def memory(mem_size: int, mem_per_class: int | None) -> ExemplarMemory:
    """Make the memory that ``mem_size`` or, where given, ``mem_per_class`` asks for."""
    if mem_per_class is not None:
        return ExemplarMemory(per_class=at_least("mem_per_class", mem_per_class))
    return ExemplarMemory(total=at_least("mem_size", mem_size))


def replay(
    setup: TrainingSetup,
    *,
    mem_size: int = 1000,
    mem_per_class: int | None = None,
    replay_batch_size: int | None = None,
    weighting: Literal["images", "experiences"] = "images",
) -> SupervisedTemplate:
    """Train on kept images beside every current batch (experience replay, ER).

    ``L = w * L_current + (1 - w) * L_replayed``, ``w`` the current share of all images
    (``weighting="images"``) or 1/t in the t-th experience (``"experiences"``, van de
    Ven).

    Args:
        mem_size: images kept in all, divided equally over the classes of the
            experiences so far.
        mem_per_class: images kept of each class of each experience, instead of
            ``mem_size``.
        replay_batch_size: images replayed per iteration; null: as many as the batch
            size.
        weighting: how current and replayed loss share the step.
    Source: Rolnick et al. 2019, arXiv:1811.11682; van de Ven et al. 2022.
        differs from Avalanche's: see ``ReplayPlugin`` and ``GroupedExemplars``.
    """
    exemplars = memory(mem_size, mem_per_class)
    return setup.build(plugins=[ReplayPlugin(exemplars, replay_batch_size, weighting)])


def agem(
    setup: TrainingSetup,
    *,
    mem_size: int = 1000,
    mem_per_class: int | None = None,
    replay_batch_size: int | None = None,
) -> SupervisedTemplate:
    """Project the gradient off a rise of the loss on kept images (A-GEM).

    Args:
        mem_size: images kept in all, divided equally over the classes of the
            experiences so far.
        mem_per_class: images kept of each class of each experience, instead of
            ``mem_size``.
        replay_batch_size: kept images per iteration; null: as many as the batch size.
    Source: Chaudhry et al. 2019, arXiv:1812.00420, eq. 11. differs from Avalanche's:
        see ``AGEMPlugin``.
    """
    exemplars = memory(mem_size, mem_per_class)
    return setup.build(plugins=[AGEMPlugin(exemplars, replay_batch_size)])


def gem(
    setup: TrainingSetup,
    *,
    patterns_per_experience: int = 256,
    memory_strength: float = 0.5,
) -> SupervisedTemplate:
    """Project the gradient off a rise of the loss on any past experience (GEM).

    The nearest gradient whose product with each past experience's is not negative: a
    quadratic program per iteration.

    Args:
        patterns_per_experience: images kept of each experience.
        memory_strength: margin that favours backward transfer.
    Source: Lopez-Paz and Ranzato 2017, arXiv:1706.08840, eqs. 8-11. Avalanche's
        GEMPlugin, unchanged.
    """
    at_least("patterns_per_experience", patterns_per_experience)
    non_negative("memory_strength", memory_strength)
    return setup.build(plugins=[GEMPlugin(patterns_per_experience, memory_strength)])


def er_ace(
    setup: TrainingSetup, *, mem_size: int = 1000, replay_batch_size: int | None = None
) -> SupervisedTemplate:
    """Replay, with the current loss over the current batch's classes only (ER-ACE).

    ``L = (CE(current, over classes in the batch) + CE(replayed, over all)) / 2``.

    Args:
        mem_size: images kept in all, divided equally over the classes so far; the
            current ones are among them.
        replay_batch_size: images replayed per iteration; null: as many as the batch
            size.
    Source: Caccia et al. 2022, arXiv:2104.05025. Avalanche's ER_ACE, but
        for its loss, which is infinite once a probability rounds to 0.
    """
    strategy = setup.build(
        ER_ACE,
        mem_size=at_least("mem_size", mem_size),
        batch_size_mem=_replayed(setup, replay_batch_size, mem_size),
    )
    strategy.ace_criterion = asymmetric_cross_entropy
    return strategy


def der(
    setup: TrainingSetup,
    *,
    mem_size: int = 1000,
    replay_batch_size: int | None = None,
    alpha: float = 0.1,
    beta: float = 0.5,
) -> SupervisedTemplate:
    """Replay with the outputs of old as targets (dark experience replay, DER++).

    ``L = CE(current) + alpha MSE(outputs, outputs kept) + beta CE(replayed)``;
    ``beta=0`` is plain DER.

    Args:
        mem_size: images kept in all, divided equally over the classes so far.
        replay_batch_size: images replayed per iteration; null: as many as the batch
            size.
        alpha: weight of the outputs kept.
        beta: weight of the labels kept.
    Source: Buzzega et al. 2020, arXiv:2004.07211, section 3. Avalanche's DER, unchanged:
        outputs are kept as they are at the end of an experience, one replayed batch
        serves both terms.
    """
    return setup.build(
        DER,
        mem_size=at_least("mem_size", mem_size),
        batch_size_mem=_replayed(setup, replay_batch_size, mem_size),
        alpha=non_negative("alpha", alpha),
        beta=non_negative("beta", beta),
    )


def gdumb(
    setup: TrainingSetup, *, mem_size: int = 1000, mem_per_class: int | None = None
) -> SupervisedTemplate:
    """Train from scratch on a balanced memory alone (GDumb).

    Args:
        mem_size: images kept in all, divided equally over the classes of the
            experiences so far, current ones included.
        mem_per_class: images kept of each class of each experience, instead of
            ``mem_size``.
    Source: Prabhu, Torr, Dokania 2020, "GDumb", ECCV. differs from Avalanche's: see
        ``MemoryOnlyPlugin``; no cosine schedule, no cutmix.
    """
    exemplars = memory(mem_size, mem_per_class).exemplars
    return setup.build(plugins=[MemoryOnlyPlugin(exemplars), FromScratchPlugin()])


def mir(
    setup: TrainingSetup,
    *,
    mem_size: int = 1000,
    mem_per_class: int | None = None,
    replay_batch_size: int | None = None,
    candidates: int = 256,
) -> SupervisedTemplate:
    """Replay the kept images that the coming step would hurt most (MIR).

    Args:
        mem_size: images kept in all, divided equally over the classes of the
            experiences so far.
        mem_per_class: images kept of each class of each experience, instead of
            ``mem_size``.
        replay_batch_size: images replayed per iteration; null: as many as the batch
            size.
        candidates: kept images looked at per iteration.
    Source: Aljundi et al. 2019, arXiv:1908.04742, section 3. differs from
        Avalanche's: see ``MIRPlugin``.
    """
    exemplars = memory(mem_size, mem_per_class)
    replayed = setup.batch_size if replay_batch_size is None else replay_batch_size
    return setup.build(plugins=[MIRPlugin(exemplars, replayed, candidates)])


def _replayed(setup: TrainingSetup, size: int | None, mem_size: int) -> int:
    """Images to replay per iteration; Avalanche replays none if fewer are kept."""
    size = setup.batch_size if size is None else at_least("replay_batch_size", size)
    return min(size, mem_size)
