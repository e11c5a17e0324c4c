"""What past features say about a layer's next step: matrices that shrink it.

A layer ``y = phi(x) @ W`` that moves by D changes its output at ``x`` by ``phi(x) @ D``.
With ``C`` the past features' second moments, ``tr(D^T C D)`` is the mean square of that
change over past samples; ``(I + beta C)^-1`` makes it small with the least change of
the step.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kancl.plugins.state import to_state
from kancl.splines import Insertion


class Preconditioner(ABC):
    """Collects features ``(n, n_features)``; then shrinks steps.

    ``close`` ends an experience: it is one of the past from then on.
    """

    @abstractmethod
    def observe(self, features: Tensor) -> None: ...

    def close(self) -> None:
        """Take what was observed into account from now on, if it was not at once."""

    @abstractmethod
    def shrink(self, step: Tensor) -> Tensor:
        """Shape: ``(n_features, out_features)`` -> the same."""

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = to_state(vars(self), type(self).__name__)
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state, also where ``__init__`` has not been called."""
        vars(self).update(state)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Any:
        made = cls.__new__(cls)
        made.load_state_dict(state)
        return made


class FullGram(Preconditioner):
    """``(I + beta C)^-1 @ step``, ``C += mean phi phi^T`` after each experience.

    Args:
        group: so many features in a row belong together: an input's bases.
    Source: a soft form of orthogonal weight modification, Zeng et al. 2019,
        arXiv:1810.01256: with beta to infinity, steps are orthogonal to past features.
    """

    def __init__(self, beta: float, group: int | None = None) -> None:
        self.beta, self.group = beta, group
        self.gram: Any = None
        self.inverse: Any = None
        """Inverse for all features, or for ``group - 1`` sums of each group's."""
        self._sum: Any = 0.0
        self._n = 0
        self._axes: Tensor | None = None

    def observe(self, features: Tensor) -> None:
        self._sum = self._sum + features.mT @ features
        self._n += features.shape[-2]

    def close(self) -> None:
        # Where every group's features always add up to 0, as an anchored layer's do on
        # its grid, their common part is never shrunk and needs no place in the matrix.
        present = self._sum / self._n
        self.gram = present if self.gram is None else self.gram + present
        self._sum, self._n = 0.0, 0
        self._axes = None
        gram = self.gram
        if self.group is not None and _adds_up_to_0(gram, self.group):
            self._axes = differences(self.group).to(gram)
            gram = grouped(grouped(gram, self._axes).T, self._axes)
        self.inverse = _inverse(gram, self.beta)

    def shrink(self, step: Tensor) -> Tensor:
        if self._axes is None:
            return times(step, self.inverse)
        differing = grouped(step, self._axes)
        change = times(differing, self.inverse) - differing
        return step + grouped(change, self._axes.T)


class BlockGram(Preconditioner):
    """``FullGram`` of the blocks of C that belong to one input each; the rest counts as 0.

    Args:
        blocks: row numbers of features, each ``(n_blocks, size)``: every row once.
    """

    def __init__(self, beta: float, blocks: list[Tensor]) -> None:
        self.beta, self.blocks = beta, blocks
        self.parts = [FullGram(beta) for _ in blocks]
        """Stacked: every gram is ``(n_blocks, size, size)``."""

    def observe(self, features: Tensor) -> None:
        for part, rows in zip(self.parts, self.blocks):
            part.observe(features[:, rows].transpose(0, 1))  # (n_blocks, n, size)

    def close(self) -> None:
        for part in self.parts:
            part.close()

    def shrink(self, step: Tensor) -> Tensor:
        shrunk = torch.empty_like(step)
        for part, rows in zip(self.parts, self.blocks):
            shrunk[rows] = part.shrink(step[rows])  # (n_blocks, size, out_features)
        return shrunk

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.parts = [FullGram.from_state(part) for part in state["parts"]]


class LowRankGram(Preconditioner):
    """``FullGram`` with the largest ``rank`` eigenvalues of C; the rest counts as 0.

    ``C = B^T B`` with orthogonal rows B; ``(I + beta C)^-1 = I - B^T diag(beta / (1 +
    beta s)) B``, s their squared lengths (Woodbury). B is found chunk by chunk, each
    time the best of that rank for what was kept and what is new; C is never made.
    """

    def __init__(self, beta: float, rank: int) -> None:
        self.beta, self.rank = beta, rank
        self.rows: Any = None
        self._present: Any = None
        self._n = 0

    def observe(self, features: Tensor) -> None:
        self._present = self._best(self._present, features)
        self._n += len(features)

    def close(self) -> None:
        self.rows = self._best(self.rows, self._present / self._n**0.5)
        self._present, self._n = None, 0

    def shrink(self, step: Tensor) -> Tensor:
        squares = self.rows.square().sum(1, keepdim=True)
        along = self.beta / (1 + self.beta * squares) * (self.rows @ step)
        return step - self.rows.T @ along

    def _best(self, kept: Tensor | None, new: Tensor) -> Tensor:
        both = new if kept is None else torch.cat([kept, new])
        products = (both @ both.T).double()
        _, vectors = torch.linalg.eigh(products)  # of the smallest eigenvalue first
        largest = vectors[:, -self.rank :]
        return largest.T.to(both.dtype) @ both


class DiagonalOccupancy(Preconditioner):
    """``step / (1 + beta o)``, ``o += m / mean(m)``, ``m = mean |phi|``, by feature."""

    def __init__(self, beta: float) -> None:
        self.beta = beta
        self.occupancy: Any = 0.0
        self._sum: Any = 0.0

    def observe(self, features: Tensor) -> None:
        self._sum = self._sum + features.abs().sum(0)

    def close(self) -> None:
        mean = self._sum.mean().clamp(min=torch.finfo(self._sum.dtype).tiny)
        self.occupancy = self.occupancy + self._sum / mean
        self._sum = 0.0

    def shrink(self, step: Tensor) -> Tensor:
        return step / (1 + self.beta * self.occupancy).unsqueeze(1)

    def carry(self, insertion: Insertion, n_inputs: int) -> None:
        """Take along what is known of splines whose grid has changed.

        A spline's occupancy is that of the parents it is made of, in proportion; 0 if it
        has none, beyond the old grid. Splines of ``n_inputs`` are the first features.
        """
        n_old = insertion.matrix.shape[-1]
        splines = self.occupancy[: n_inputs * n_old].view(n_inputs, n_old)
        others = self.occupancy[n_inputs * n_old :]
        has_parents = insertion.shares(torch.ones_like(splines)) > 0
        carried = insertion.second_moments(splines) * has_parents
        self.occupancy = torch.cat([carried.flatten(), others])


def _inverse(gram: Tensor, beta: float) -> Tensor:
    """``(I + beta C)^-1`` by Cholesky, in float64; batches of matrices as well."""
    eye = torch.eye(gram.shape[-1], dtype=torch.float64, device=gram.device)
    factor = torch.linalg.cholesky(eye + beta * gram.double())
    return torch.cholesky_inverse(factor).to(gram.dtype)


def _adds_up_to_0(gram: Tensor, group: int) -> bool:
    """Whether each group's features did so at every sample, up to rounding."""
    sums = gram.view(len(gram), -1, group).sum(2)
    return bool(sums.abs().max() <= 1e-6 * gram.abs().max())


def differences(group: int) -> Tensor:
    """Orthonormal axes of a group without its common part: ``(group - 1, group)``."""
    n = torch.arange(1, group, dtype=torch.float64).unsqueeze(1)
    g = torch.arange(group)
    return ((g < n).double() - (g == n) * n) / (n * (n + 1)).sqrt()


def times(step: Tensor, symmetric: Tensor) -> Tensor:
    """``symmetric @ step``; for few columns this is the faster way round."""
    return (step.mT @ symmetric).mT


def grouped(rows: Tensor, axes: Tensor) -> Tensor:
    """``axes @`` each group of rows: ``(n * group, m)`` -> ``(n * len(axes), m)``."""
    groups = rows.view(-1, axes.shape[1], rows.shape[1])
    return (axes @ groups).flatten(0, 1)
