"""What will be forgotten, guessed before training: kernels between experiences."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kancl.metrics.score_matrix import UndefinedMetric


def kernel_ratio(old: Sequence[Tensor], new: Sequence[Tensor]) -> float:
    """How far a step on a new sample moves an old one's output, of what it moves its own.

    ``rho_st = K_st / sqrt(K_ss K_tt)``, ``K_st = sum_layers mean_s(phi) . mean_t(phi)``:
    the mean inner product of a sample's features with those of another experience's,
    which follows from occupancy alone. For one layer trained by gradient descent it is
    what later forgetting is proportional to; 0: nothing is shared.

    Args:
        old, new: per layer, the mean features over an experience's samples; any shape,
            the same on both sides.
    Raises: ValueError for unlike layers; UndefinedMetric if one side has no features.
    """
    shapes = [[mean.shape for mean in side] for side in (old, new)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"both sides must be of the same layers, got {shapes}")
    shared = _inner(old, new)
    own = (_inner(old, old) * _inner(new, new)).sqrt()
    if not bool(own > 0):
        raise UndefinedMetric("an experience without features moves nothing")
    return float(shared / own)


def falls(matrix: Tensor, rises: bool = True) -> dict[tuple[int, int], float]:
    """What training on ``t`` took from ``s``: ``R[t-1][s] - R[t][s]``, ``s < t``.

    Args:
        matrix: as in ``accuracy_matrix``, ``(N + 1, N)``.
        rises: whether more is better, as for accuracies; errors are turned round.
    Returns: by ``(s, t)``, 0-based; pairs that were not measured are left out.
    """
    sign = 1.0 if rises else -1.0
    n = matrix.shape[1]
    pairs = {
        (s, t): sign * float(matrix[t, s] - matrix[t + 1, s])
        for t in range(1, n)
        for s in range(t)
    }
    return {pair: fall for pair, fall in pairs.items() if fall == fall}


def _inner(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    products = [(x.double() * y.double()).sum() for x, y in zip(a, b)]
    return torch.stack(products).sum()
