"""Strategies without a remedy: the floor and the ceiling of every comparison."""

from __future__ import annotations

from avalanche.training.supervised import Cumulative, JointTraining
from avalanche.training.templates import SupervisedTemplate

from kancl.plugins.rehearsal.from_scratch import FromScratchPlugin
from kancl.strategies.setup import TrainingSetup


def naive(setup: TrainingSetup) -> SupervisedTemplate:
    """Train on one experience after the other, with no remedy ("none", fine-tuning).

    Source: the lower bound of van de Ven and Tolias 2019, arXiv:1904.07734. Avalanche's
        Naive.
    """
    return setup.build()


def joint(setup: TrainingSetup) -> SupervisedTemplate:
    """Train once on the data of all experiences together: the upper bound.

    Give ``train`` the whole stream; there is nothing between the experiences to
    measure.

    Source: "offline" in van de Ven and Tolias 2019, arXiv:1904.07734. Avalanche's
        JointTraining.
    """
    return setup.build(JointTraining)


def cumulative(setup: TrainingSetup) -> SupervisedTemplate:
    """Train each experience on all data so far, going on from the weights reached.

    Source: Lomonaco and Maltoni 2017, arXiv:1705.03550. Avalanche's Cumulative.
    """
    return setup.build(Cumulative)


def from_scratch(setup: TrainingSetup) -> SupervisedTemplate:
    """Train each experience alone, from the initial weights ("separate").

    Source: the single-task reference of Lopez-Paz and Ranzato 2017, arXiv:1706.08840.
        differs from Avalanche's: see ``FromScratchPlugin``.
    """
    return setup.build(plugins=[FromScratchPlugin()])
