"""B-splines in torch: knots, bases, fitting. Functions on tensors, no state."""

from kancl.splines.basis import Outside, check_outside, cox_de_boor, spline_basis
from kancl.splines.choice import Implementation, check_implementation, spline_sum
from kancl.splines.dense import anchored_basis, dense_spline_sum, grid_basis
from kancl.splines.fitting import Refit, fit_coefficients, refit
from kancl.splines.fused import (
    fused_spline_sum,
    takes_fused,
    why_not_fused,
)
from kancl.splines.insertion import (
    Insertion,
    cells_to_reach,
    growth,
    insertion_matrix,
    refinement,
)
from kancl.splines.knots import adapted_knots, grid_ends, is_uniform, uniform_knots
from kancl.splines.moving import moved_grid
from kancl.splines.sparse import sparse_spline_sum, takes_sparse, why_not_sparse
from kancl.splines.uniform import UniformGrid, second_moment, uniform_basis
from kancl.splines.warp import quantile_warp, warped

__all__ = [
    "Implementation",
    "Insertion",
    "Outside",
    "Refit",
    "UniformGrid",
    "adapted_knots",
    "anchored_basis",
    "cells_to_reach",
    "check_implementation",
    "check_outside",
    "cox_de_boor",
    "dense_spline_sum",
    "fit_coefficients",
    "fused_spline_sum",
    "grid_basis",
    "grid_ends",
    "growth",
    "insertion_matrix",
    "is_uniform",
    "moved_grid",
    "quantile_warp",
    "refinement",
    "refit",
    "second_moment",
    "sparse_spline_sum",
    "spline_basis",
    "spline_sum",
    "takes_fused",
    "takes_sparse",
    "uniform_basis",
    "uniform_knots",
    "warped",
    "why_not_fused",
    "why_not_sparse",
]
