"""Two remedies at once: the plugins of both on one strategy."""

from __future__ import annotations

from typing import Literal

from avalanche.training.templates import SupervisedTemplate

from kancl.plugins.outputs.lwf import LwFPlugin
from kancl.plugins.penalties.ewc import EWCPlugin
from kancl.plugins.penalties.pooling import Pooling
from kancl.plugins.penalties.synaptic_intelligence import (
    SynapticIntelligencePlugin,
)
from kancl.plugins.rehearsal.replay import ReplayPlugin
from kancl.strategies.rehearsal import memory
from kancl.strategies.setup import TrainingSetup


def ewc_replay(
    setup: TrainingSetup,
    *,
    ewc_lambda: float = 100.0,
    fisher_labels: Literal["expected", "sampled", "true", "predicted"] = "expected",
    fisher_samples: int | None = None,
    pooling: Pooling = "none",
    mem_size: int = 1000,
    mem_per_class: int | None = None,
    replay_batch_size: int | None = None,
    weighting: Literal["images", "experiences"] = "images",
) -> SupervisedTemplate:
    """EWC and replay together; options as in ``ewc`` and ``replay``.

    The Fisher information is that of the current experience's images alone.

    Source: those of ``ewc`` and ``replay``.
    """
    exemplars = memory(mem_size, mem_per_class)
    return setup.build(
        plugins=[
            ReplayPlugin(exemplars, replay_batch_size, weighting),
            EWCPlugin(
                ewc_lambda,
                fisher_labels=fisher_labels,
                fisher_samples=fisher_samples,
                pooling=pooling,
                seed=setup.seed,
            ),
        ]
    )


def si_replay(
    setup: TrainingSetup,
    *,
    si_c: float = 0.1,
    damping: float = 0.1,
    pooling: Pooling = "none",
    mem_size: int = 1000,
    mem_per_class: int | None = None,
    replay_batch_size: int | None = None,
    weighting: Literal["images", "experiences"] = "images",
) -> SupervisedTemplate:
    """SI and replay together; options as in ``si`` and ``replay``.

    The path that importances come from is that of the joint loss.

    Source: those of ``si`` and ``replay``.
    """
    exemplars = memory(mem_size, mem_per_class)
    return setup.build(
        plugins=[
            ReplayPlugin(exemplars, replay_batch_size, weighting),
            SynapticIntelligencePlugin(si_c, damping, pooling),
        ]
    )


def lwf_replay(
    setup: TrainingSetup,
    *,
    alpha: float = 1.0,
    temperature: float = 2.0,
    alpha_schedule: Literal["constant", "experiences"] = "constant",
    student: Literal["old", "seen", "all"] = "old",
    mem_size: int = 1000,
    mem_per_class: int | None = None,
    replay_batch_size: int | None = None,
    weighting: Literal["images", "experiences"] = "images",
) -> SupervisedTemplate:
    """LwF and replay together; options as in ``lwf`` and ``replay``.

    Current images are distilled, kept ones are replayed with their labels.

    Source: those of ``lwf`` and ``replay``.
    """
    exemplars = memory(mem_size, mem_per_class)
    return setup.build(
        plugins=[
            ReplayPlugin(exemplars, replay_batch_size, weighting),
            LwFPlugin(alpha, temperature, alpha_schedule, student),
        ]
    )


def lwf_ewc(
    setup: TrainingSetup,
    *,
    alpha: float = 1.0,
    temperature: float = 2.0,
    alpha_schedule: Literal["constant", "experiences"] = "constant",
    student: Literal["old", "seen", "all"] = "old",
    ewc_lambda: float = 100.0,
    fisher_labels: Literal["expected", "sampled", "true", "predicted"] = "expected",
    fisher_samples: int | None = None,
    pooling: Pooling = "none",
) -> SupervisedTemplate:
    """LwF and EWC together; options as in ``lwf`` and ``ewc``.

    Source: those of ``lwf`` and ``ewc``.
    """
    return setup.build(
        plugins=[
            LwFPlugin(alpha, temperature, alpha_schedule, student),
            EWCPlugin(
                ewc_lambda,
                fisher_labels=fisher_labels,
                fisher_samples=fisher_samples,
                pooling=pooling,
                seed=setup.seed,
            ),
        ]
    )
