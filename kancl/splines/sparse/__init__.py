"""Spline sums on a CPU that touch only the coefficients of live bases."""

from kancl.splines.sparse.function import (
    FEWEST_BASES_IN_AUTO,
    sparse_spline_sum,
    takes_sparse,
    why_not_sparse,
)

__all__ = [
    "FEWEST_BASES_IN_AUTO",
    "sparse_spline_sum",
    "takes_sparse",
    "why_not_sparse",
]
