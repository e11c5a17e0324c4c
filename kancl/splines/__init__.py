"""Splines in torch: grids as values, bases, sums, knot insertion, fitting."""

from kancl.splines import cpu, gpu
from kancl.splines.basis import Outside, check_outside, cox_de_boor, spline_basis
from kancl.splines.fitting import (
    fit_coefficients,
    fitted_knots,
    moved_grid,
    refit,
    resizing,
)
from kancl.splines.flops import basis_flops, counted
from kancl.splines.grid import Grid, GridReader
from kancl.splines.insertion import Insertion, cells_to_reach, growth, refinement
from kancl.splines.knots import (
    adapted_knots,
    anchors_of,
    ends_of,
    grid_ends,
    is_uniform,
    quantile_warp,
    uniform_knots,
    warped,
)
from kancl.splines.sums import (
    Implementation,
    check_implementation,
    dense_spline_sum,
    fused_spline_sum,
    sparse_spline_sum,
)
from kancl.splines.uniform import UniformGrid, cardinal, second_moment, uniform_basis
