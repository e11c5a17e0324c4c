"""B-splines in torch: knots, bases, fitting. Functions on tensors, no state."""

from kancl.splines.basis import Outside, check_outside, cox_de_boor, spline_basis
from kancl.splines.fitting import Refit, fit_coefficients, refit
from kancl.splines.insertion import (
    Insertion,
    cells_to_reach,
    growth,
    insertion_matrix,
    refinement,
)
from kancl.splines.knots import adapted_knots, grid_ends, is_uniform, uniform_knots
from kancl.splines.uniform import second_moment, uniform_basis

__all__ = [
    "Insertion",
    "Outside",
    "Refit",
    "adapted_knots",
    "cells_to_reach",
    "check_outside",
    "cox_de_boor",
    "fit_coefficients",
    "grid_ends",
    "growth",
    "insertion_matrix",
    "is_uniform",
    "refinement",
    "refit",
    "second_moment",
    "spline_basis",
    "uniform_basis",
    "uniform_knots",
]
