"""Elastic weight consolidation: offline (one term per experience) and online."""

from __future__ import annotations

from typing import Any

import torch
from avalanche.training.plugins import SupervisedPlugin

from kancl.data.rows import as_tensors
from kancl.plugins.hyperparameters import at_least, fraction, non_negative
from kancl.plugins.penalties.fisher import FisherLabels, diagonal_fisher
from kancl.plugins.penalties.pooling import Pooling, check_pooling, pooled
from kancl.plugins.penalties.quadratic_anchor import QuadraticAnchor, values


class EWCPlugin(SupervisedPlugin):
    """Hold parameters near those after each experience, by their Fisher information.

    ``loss += lambda/2 sum_k sum_i F_ki (theta_i - theta_ki)^2``, k over past
    experiences, each with its own Fisher information and parameters. With ``gamma`` the
    online variant: one term at the latest parameters, ``F* <- gamma F* + F_k``, ``loss
    += lambda/2 sum_i gamma F*_i (theta_i - theta*_i)^2``.

    ``implicit``: no penalty, but after every step ``theta <- a theta + (1 - a) m`` with
    ``a = 1/(1 + lr lambda sum_k F_k)`` and ``m`` the parameters' mean weighted by F: the
    same quadratic, stepped down by its gradient at the end of the step. It never
    diverges, which a large lambda's explicit gradient does.

    Args:
        ewc_lambda: strength.
        gamma: decay of past Fisher information, in [0, 1]; None for offline EWC.
        fisher_labels: see ``diagonal_fisher``.
        fisher_samples: images for the Fisher information, drawn at random; None uses
            all.
        pooling: of the importances of spline coefficients, see ``pooled``.
        seed: for that draw and for sampled labels, apart from training's random stream.
    Raises: ValueError if an option is out of range.
    Source: Kirkpatrick et al. 2017, arXiv:1612.00796, eq. 3; online: Schwarz et al.
        2018, arXiv:1805.06370. differs from Avalanche: exact per-sample
        Fisher information whatever the batch size, and the factor 1/2.
    """

    def __init__(
        self,
        ewc_lambda: float,
        *,
        gamma: float | None = None,
        fisher_labels: FisherLabels = "expected",
        fisher_samples: int | None = None,
        implicit: bool = False,
        pooling: Pooling = "none",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.ewc_lambda = non_negative(
            "ewc_lambda", ewc_lambda, "0 trains as naive does"
        )
        self.gamma = None if gamma is None else fraction("gamma", gamma)
        if fisher_samples is not None:
            at_least("fisher_samples", fisher_samples)
        self.fisher_labels = fisher_labels
        self.fisher_samples = fisher_samples
        self.implicit = implicit
        self.pooling = check_pooling(pooling)
        self.anchor = QuadraticAnchor()
        self._generator = torch.Generator().manual_seed(seed)

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        if self.anchor and not self.implicit:
            strategy.loss += self._strength / 2 * self.anchor.penalty(strategy.model)

    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        if self.anchor and self.implicit:
            lr = strategy.optimizer.param_groups[0]["lr"]
            self.anchor.pull(strategy.model, lr * self._strength)

    @property
    def changes_steps(self) -> bool:
        return self.implicit

    @property
    def _strength(self) -> float:
        return self.ewc_lambda * (1 if self.gamma is None else self.gamma)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        dataset = strategy.experience.dataset
        if self.fisher_samples is not None and self.fisher_samples < len(dataset):
            order = torch.randperm(len(dataset), generator=self._generator)
            dataset = dataset.subset(order[: self.fisher_samples].tolist())
        x, y, task_labels = as_tensors(dataset)
        fisher = diagonal_fisher(
            strategy.model,
            x.to(strategy.device),
            y.to(strategy.device),
            task_labels,
            labels=self.fisher_labels,
            generator=self._generator,
        )
        fisher = pooled(fisher, self.pooling, strategy)
        if self.gamma is None:
            self.anchor.add(fisher, values(strategy.model))
        else:
            self.anchor.move(fisher, values(strategy.model), decay=self.gamma)
