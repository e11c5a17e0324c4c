"""Splines in torch: grids as values, bases, sums, knot insertion, fitting."""

from kancl.splines.basis import Outside, check_outside, cox_de_boor, spline_basis
from kancl.splines.cpu import why_not_sparse
from kancl.splines.fitting import (
    fit_coefficients,
    fitted_knots,
    moved_grid,
    refit,
)
from kancl.splines.gpu import why_not_fused
from kancl.splines.grid import Grid, GridReader
from kancl.splines.insertion import (
    Insertion,
    cells_to_reach,
    growth,
    insertion_matrix,
    refinement,
)
from kancl.splines.knots import (
    adapted_knots,
    anchors_of,
    ends_of,
    grid_ends,
    is_uniform,
    uniform_knots,
)
from kancl.splines.sums import (
    Implementation,
    check_implementation,
    dense_spline_sum,
    fused_spline_sum,
    sparse_spline_sum,
)
from kancl.splines.uniform import (
    UniformGrid,
    cardinal,
    second_moment,
    uniform_basis,
)
from kancl.splines.warp import quantile_warp, warped

__all__ = [
    "Grid",
    "GridReader",
    "Implementation",
    "Insertion",
    "Outside",
    "UniformGrid",
    "adapted_knots",
    "anchors_of",
    "cardinal",
    "cells_to_reach",
    "check_implementation",
    "check_outside",
    "cox_de_boor",
    "dense_spline_sum",
    "ends_of",
    "fit_coefficients",
    "fitted_knots",
    "fused_spline_sum",
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
    "uniform_basis",
    "uniform_knots",
    "warped",
    "why_not_fused",
    "why_not_sparse",
]
