"""Linear classifiers in closed form, from sums over samples: no order, no forgetting."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
BATCH = 1024  # rows per product: adding to a gram matrix costs as much as a product


class FeatureSums:
    """All that the classifiers here need to know of the samples so far, in float64.

    ``moment = sum phi(x) onehot(y)^T``, ``(n_features, n_classes)``; if it is kept,
    ``gram = sum phi phi^T``, ``(n_features, n_features)``.
    """

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        *,
        gram: bool,
        device: str | torch.device = "cpu",
    ) -> None:
        zeros = partial(torch.zeros, dtype=torch.float64, device=device)
        self._moment = zeros((n_features, n_classes))
        self._n_samples = zeros((n_classes,))
        self._gram = zeros((n_features, n_features)) if gram else None
        self._pending: list[tuple[Tensor, Tensor]] = []

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> FeatureSums:
        sums = cls.__new__(cls)
        sums.load_state_dict(state)
        return sums

    def add(self, features: Tensor, targets: Tensor) -> None:
        """Take ``(n, n_features)`` and their classes ``(n,)`` into account."""
        self._pending.append((features, targets))
        if sum(len(targets) for _, targets in self._pending) >= BATCH:
            self._take_pending()

    def without(self, part: FeatureSums) -> FeatureSums:
        """The sums over all samples but those of ``part``."""
        n_samples = self.n_samples - part.n_samples
        state = {"_moment": self.moment - part.moment, "_n_samples": n_samples}
        gram = None if self._gram is None else self.gram - part.gram
        return FeatureSums.from_state(state | {"_gram": gram, "_pending": []})

    @property
    def moment(self) -> Tensor:
        self._take_pending()
        return self._moment

    @property
    def n_samples(self) -> Tensor:
        """How many of each class, ``(n_classes,)``."""
        self._take_pending()
        return self._n_samples

    @property
    def gram(self) -> Tensor:
        assert self._gram is not None, "made without gram"
        self._take_pending()
        return self._gram

    def _take_pending(self) -> None:
        if not self._pending:
            return
        # In float32 the gram matrix's small eigenvalues drown in the large ones' rounding.
        features = torch.cat([features for features, _ in self._pending]).double()
        targets = torch.cat([targets for _, targets in self._pending])
        self._pending.clear()
        one_hot = torch.nn.functional.one_hot(targets, len(self._n_samples))
        self._moment += features.T @ one_hot.double()
        self._n_samples += one_hot.sum(0)
        if self._gram is not None:
            self._gram += features.T @ features


# Weights, (n_features, n_classes). Where a ``constant`` is needed: weights with which the
# features add up to 1, (n_features,).


def ridge_weights(sums: FeatureSums, ridge: float) -> Tensor:
    """Least squares on one-hot targets, large weights penalised.

    ``W = (gram + ridge * mean(diag gram) * I)^-1 moment``

    Source: McDonnell et al. 2023, arXiv:2307.02251 (RanPAC), for ridge regression on
        random features against forgetting.
    """
    gram = sums.gram
    penalised = gram.clone()
    penalised.diagonal().add_(ridge * gram.diagonal().mean().clamp(min=1e-300))
    return torch.cholesky_solve(sums.moment, torch.linalg.cholesky(penalised))


def best_ridge(sums: FeatureSums, held_out: FeatureSums) -> float:
    """The strength of ``RIDGES`` that does best on a part of the samples, by the others.

    Best is the least squared error on one-hot targets, which is known from sums.

    Args:
        sums: over all samples, those held out too.
    Source: McDonnell et al. 2023, arXiv:2307.02251 (RanPAC), who choose it so.
    """
    others = sums.without(held_out)

    def error(ridge: float) -> float:
        weights = ridge_weights(others, ridge)
        wrong = held_out.gram @ weights - 2 * held_out.moment
        return float((weights * wrong).sum())

    return min(RIDGES, key=error)


def nearest_mean_weights(sums: FeatureSums, constant: Tensor) -> Tensor:
    """The class whose mean features are nearest: ``phi . mu_c - |mu_c|^2 / 2``.

    Source: Mensink et al. 2013, IEEE TPAMI 35, 2624-2637.
    """
    means = sums.moment / sums.n_samples.clamp(min=1)
    return means - constant.to(means).unsqueeze(1) * means.square().sum(0) / 2


def spline_bayes_weights(
    sums: FeatureSums, in_features: int, smoothing: float, constant: Tensor
) -> Tensor:
    """Naive Bayes whose densities are the classes' occupancies of the bases.

    ``1/P (log p(c) + sum_pg B_g(x_p) log P(g|p,c) / P(g|p))``, ``P(g|p,c)`` the share
    of basis g in input p's occupancy by class c: categorical naive Bayes with soft
    counts, and a sum of splines again. ``P(g|p)`` and the number P of inputs change no
    ranking: they keep outputs near 0.

    Args:
        in_features: inputs p; the features are their bases and nothing else.
        smoothing: added to every soft count.
    """
    counts = (sums.moment + smoothing).unflatten(0, (in_features, -1))
    share = counts / counts.sum(1, keepdim=True)
    pooled = counts.sum(2, keepdim=True) / counts.sum((1, 2)).view(-1, 1, 1)
    evidence = (share / pooled).log().flatten(0, 1)
    prior = sums.n_samples / sums.n_samples.sum().clamp(min=1)
    log_prior = constant.to(evidence).unsqueeze(1) * prior.clamp(min=1e-300).log()
    return (evidence + log_prior) / in_features
