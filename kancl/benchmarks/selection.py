"""Which images go where: class order, pixel orders, validation shares, caps.

Every draw has its own generator, seeded by what it is for: torch's global generator is
never touched, and a draw does not depend on how many others there are.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

# first entry of a generator's seed: what is drawn
_CLASS_ORDER, _PIXEL_ORDER, _VALIDATION, _CAP = range(4)


def class_order(kind: str, n_classes: int, seed: int) -> list[int]:
    """``fixed``: 0, 1, 2...; ``random``: shuffled by ``seed``."""
    if kind == "fixed":
        return list(range(n_classes))
    return np.random.default_rng([_CLASS_ORDER, seed]).permutation(n_classes).tolist()


def pixel_order(seed: int, experience: int, n_pixels: int) -> Tensor:
    """The permutation of one experience; the same for any number of experiences."""
    generator = np.random.default_rng([_PIXEL_ORDER, seed, experience])
    return torch.from_numpy(generator.permutation(n_pixels))


def rows_by_class(labels: Tensor, classes: Iterable[int]) -> Tensor:
    """Positions of the labels ``classes``: class by class, ascending within each."""
    rows = [torch.nonzero(labels == label).flatten() for label in classes]
    return torch.cat(rows)


def hold_out(labels: Tensor, share: float, seed: list[int]) -> Tensor:
    """A mask over ``labels``: True for a random ``share`` of every class."""
    return _stratified(labels, round(share * len(labels)), [_VALIDATION, *seed])


def cap(rows: Tensor, labels: Tensor, limit: int | None, seed: list[int]) -> Tensor:
    """At most ``limit`` of ``rows``, random, all classes kept in proportion."""
    if limit is None or limit >= len(rows):
        return rows
    return rows[_stratified(labels[rows], limit, [_CAP, *seed])]


def _stratified(labels: Tensor, n: int, seed: list[int]) -> Tensor:
    """A mask that is True ``n`` times, for each class in proportion to its number.

    Shares are rounded by largest remainder.
    """
    classes, counts = (part.numpy() for part in labels.unique(return_counts=True))
    exact = counts * (n / len(labels))
    quotas = np.floor(exact + 1e-9).astype(int)
    by_remainder = np.argsort(quotas - exact, kind="stable")
    quotas[by_remainder[: n - quotas.sum()]] += 1
    generator = np.random.default_rng(seed)
    mask = torch.zeros(len(labels), dtype=torch.bool)
    for label, quota in zip(classes.tolist(), quotas.tolist()):
        members = torch.nonzero(labels == label).flatten()
        chosen = generator.permutation(len(members))[:quota]
        mask[members[torch.from_numpy(chosen)]] = True
    return mask
