"""Strategies that hold parameters, or outputs, near what they were."""

from __future__ import annotations

from typing import Literal

from avalanche.training.plugins import EWCPlugin as BatchedEWCPlugin
from avalanche.training.templates import SupervisedTemplate

from kancl.plugins.hyperparameters import non_negative
from kancl.plugins.outputs.lwf import LwFPlugin
from kancl.plugins.penalties.ewc import EWCPlugin
from kancl.plugins.penalties.l2_anchor import L2AnchorPlugin
from kancl.plugins.penalties.mas import MASPlugin
from kancl.plugins.penalties.pooling import Pooling
from kancl.plugins.penalties.synaptic_intelligence import (
    SynapticIntelligencePlugin,
)
from kancl.strategies.setup import TrainingSetup


def ewc(
    setup: TrainingSetup,
    *,
    ewc_lambda: float = 100.0,
    fisher_labels: Literal["expected", "sampled", "true", "predicted"] = "expected",
    fisher_samples: int | None = None,
    pooling: Pooling = "none",
) -> SupervisedTemplate:
    """Hold parameters by their exact Fisher information, a term per experience (EWC).

    ``loss += ewc_lambda/2 sum_k sum_i F_ki (theta_i - theta_ki)^2``.

    Args:
        ewc_lambda: strength.
        fisher_labels: labels that the Fisher information is taken over: their
            expectation under the model, one drawn from it, the true one, or the one
            predicted.
        fisher_samples: images drawn for it after each experience; null uses all.
        pooling: of spline coefficients' importances: none; knot: one per input's basis;
            occupancy: divided by how much the experience used the basis.
    Source: Kirkpatrick et al. 2017, arXiv:1612.00796, eq. 3. differs from Avalanche's:
        see ``EWCPlugin``.
    """
    plugin = EWCPlugin(
        ewc_lambda,
        fisher_labels=fisher_labels,
        fisher_samples=fisher_samples,
        pooling=pooling,
        seed=setup.seed,
    )
    return setup.build(plugins=[plugin])


def ewc_batched(
    setup: TrainingSetup, *, ewc_lambda: float = 100.0
) -> SupervisedTemplate:
    """Avalanche's EWC: squared gradients of the mean loss of mini-batches.

    ``loss += ewc_lambda sum_k sum_i G_ki (theta_i - theta_ki)^2``, ``G`` the average of
    (gradient of the mean loss of a batch)^2. It depends on the batch size and has no
    1/2: for comparison with numbers from Avalanche only.

    Args:
        ewc_lambda: strength.
    Source: Avalanche 0.6, ``EWCPlugin(mode="separate")``, unchanged; see its issue
        1224.
    """
    non_negative("ewc_lambda", ewc_lambda, "0 trains as naive does")
    return setup.build(plugins=[BatchedEWCPlugin(ewc_lambda, mode="separate")])


def online_ewc(
    setup: TrainingSetup,
    *,
    ewc_lambda: float = 100.0,
    gamma: float = 1.0,
    fisher_labels: Literal["expected", "sampled", "true", "predicted"] = "expected",
    fisher_samples: int | None = None,
    pooling: Pooling = "none",
) -> SupervisedTemplate:
    """Hold parameters where they are by a running Fisher information (online EWC).

    ``loss += ewc_lambda/2 sum_i gamma F*_i (theta_i - theta*_i)^2``, ``F* <- gamma F* +
    F`` after each experience.

    Args:
        ewc_lambda: strength.
        gamma: decay of past Fisher information, in [0, 1].
        fisher_labels: as in ``ewc``.
        fisher_samples: images drawn for it after each experience; null uses all.
        pooling: as in ``ewc``.
    Source: Schwarz et al. 2018, arXiv:1805.06370. differs from Avalanche's
        ``mode="online"``: exact Fisher information, the factor 1/2, and gamma at its
        place in the loss.
    """
    plugin = EWCPlugin(
        ewc_lambda,
        gamma=gamma,
        fisher_labels=fisher_labels,
        fisher_samples=fisher_samples,
        pooling=pooling,
        seed=setup.seed,
    )
    return setup.build(plugins=[plugin])


def si(
    setup: TrainingSetup,
    *,
    si_c: float = 0.1,
    damping: float = 0.1,
    pooling: Pooling = "none",
) -> SupervisedTemplate:
    """Hold parameters by how far they lowered the loss (synaptic intelligence, SI).

    ``loss += si_c sum_i Omega_i (theta_i - theta*_i)^2``.

    Args:
        si_c: strength.
        damping: keeps importances bounded where a parameter hardly moved.
        pooling: as in ``ewc``.
    Source: Zenke, Poole, Ganguli 2017, arXiv:1703.04200, eqs. 3-5. differs from
        Avalanche's, which does nothing on a CPU: see ``SynapticIntelligencePlugin``.
    """
    return setup.build(plugins=[SynapticIntelligencePlugin(si_c, damping, pooling)])


def mas(
    setup: TrainingSetup, *, mas_lambda: float = 1.0, pooling: Pooling = "none"
) -> SupervisedTemplate:
    """Hold parameters by how strongly they move the outputs (memory-aware synapses).

    ``loss += mas_lambda sum_i Omega_i (theta_i - theta*_i)^2``.

    Args:
        mas_lambda: strength.
        pooling: as in ``ewc``.
    Source: Aljundi et al. 2018, arXiv:1711.09601, section 4. differs from
        Avalanche's: see ``MASPlugin``.
    """
    return setup.build(plugins=[MASPlugin(mas_lambda, pooling)])


def l2_anchor(setup: TrainingSetup, *, l2_lambda: float = 1.0) -> SupervisedTemplate:
    """Hold all parameters alike at their latest values: the control for importances.

    ``loss += l2_lambda |theta - theta*|^2``.

    Args:
        l2_lambda: strength.
    Source: the "L2" control of Kirkpatrick et al. 2017, arXiv:1612.00796, fig. 2.
        Avalanche has none.
    """
    return setup.build(plugins=[L2AnchorPlugin(l2_lambda)])


def lwf(
    setup: TrainingSetup,
    *,
    alpha: float = 1.0,
    temperature: float = 2.0,
    alpha_schedule: Literal["constant", "experiences"] = "constant",
    student: Literal["old", "seen", "all"] = "old",
) -> SupervisedTemplate:
    """Keep the outputs for past classes as they were (learning without forgetting).

    ``loss += alpha KL(softmax(teacher/T) || softmax(student/T))`` on the current
    images.

    Args:
        alpha: strength.
        temperature: T.
        alpha_schedule: constant, or alpha times the number of past experiences.
        student: units of the student's softmax: old ones, all seen, or all.
    Source: Li and Hoiem 2016, arXiv:1606.09282, eqs. 2-4. differs from Avalanche's: see
        ``LwFPlugin``.
    """
    plugin = LwFPlugin(alpha, temperature, alpha_schedule, student)
    return setup.build(plugins=[plugin])
