"""Spline sums on a GPU that touch only live coefficients: one kernel per pass."""

from kancl.splines.fused.function import (
    FEWEST_BASES_IN_AUTO,
    fused_spline_sum,
    takes_fused,
    why_not_fused,
)

__all__ = [
    "FEWEST_BASES_IN_AUTO",
    "fused_spline_sum",
    "takes_fused",
    "why_not_fused",
]
