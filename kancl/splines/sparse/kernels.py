"""The loops of the sparse path, compiled by Numba: only rows of live bases are touched.

At a point at most ``degree + 1 <= LIVE`` bases are not 0, those of neighbouring rows of
the coefficients ``(in_features, n_basis, out_features)``: one contiguous block, whatever
the grid size. An input at a time, so that its rows stay in the fastest cache.

All kernels take the inputs and the grid alike: ``x (batch, in_features)``; ``apart``, a
value per input that is not worked on sample by sample, NaN for none, or empty, and
``anchored``, whether splines are shifted to 0 there; ``low`` and ``cells`` (grid cells per
unit of x), all float64. ``scale (in_features, out_features)`` may be empty as well.
``start`` and ``stop`` are the part of the work to do. Nothing is checked here.
"""

from typing import Any

import numpy as np
from numba import literally, njit

from kancl.splines.sparse.simd import (
    interleave,
    load,
    multiply,
    multiply_add,
    prefetch,
    splat,
    store,
    subtract,
    total,
)

LIVE = 4  # rows that are read for a value; the highest degree is one less
BLOCK = 16  # columns of the outputs' gradient that are worked on together
LANES, HALF, WIDE = 8, 32, 64  # outputs whose sums are held in registers
SAMPLES = 64  # that are worked on together, so that they stay in the fastest cache
TOGETHER = 4  # inputs whose splines they pass over
PASSING = 16  # inputs of which some are live that pass over them
INPUTS = 8  # inputs that pass over a block of the outputs' gradient in turn
FAR = 4096  # coefficients per input from which on their gradient is fetched ahead
ZERO, CLAMP, LINEAR = 0, 1, 2  # policies outside the grid

OPTIONS: dict[str, Any] = dict(
    nogil=True,
    error_model="numpy",
    fastmath={"contract"},
    cache=True,
    boundscheck=False,
)


@njit(forceinline=True, **OPTIONS)
def _pieces(u, degree, values, k, shift):  # type: ignore[no-untyped-def]
    """The ``degree + 1`` polynomials of a cell at ``u`` in [0, 1] of it."""
    one, half = values.dtype.type(1), values.dtype.type(0.5)
    w = one - u
    if degree == 3:
        sixth, two_thirds = values.dtype.type(1 / 6), values.dtype.type(2 / 3)
        values[shift, k] = w * w * w * sixth
        values[shift + 1, k] = two_thirds + u * u * (u * half - one)
        values[shift + 2, k] = two_thirds + w * w * (w * half - one)
        values[shift + 3, k] = u * u * u * sixth
    elif degree == 2:
        values[shift, k] = w * w * half
        values[shift + 1, k] = half + u * w
        values[shift + 2, k] = u * u * half
    else:
        values[shift, k] = w
        values[shift + 1, k] = u


@njit(forceinline=True, **OPTIONS)
def _slopes(u, degree, values, k, shift):  # type: ignore[no-untyped-def]
    """Their derivatives, per cell."""
    one, half = values.dtype.type(1), values.dtype.type(0.5)
    w = one - u
    if degree == 3:
        values[shift, k] = -w * w * half
        values[shift + 1, k] = u * (u * (one + half) - (one + one))
        values[shift + 2, k] = w * ((one + one) - w * (one + half))
        values[shift + 3, k] = u * u * half
    elif degree == 2:
        values[shift, k] = -w
        values[shift + 1, k] = w - u
        values[shift + 2, k] = u
    else:
        values[shift, k] = -one
        values[shift + 1, k] = one


@njit(**OPTIONS)
def _locate(  # type: ignore[no-untyped-def]
    position, size, degree, outside, slope, values, k, spare
):
    """Fill ``values[:, k]``, of the ``LIVE`` rows from the returned one on.

    Args:
        position: in cells from the grid's low end.
        slope: derivatives by the position in place of values.
        spare: ``(LIVE, 1)``, to work with.
    """
    last = size + degree - LIVE  # the last row to start from
    kind = values.dtype.type
    inside = position
    if outside != ZERO:
        inside = min(max(position, 0.0), float(size))
    values[:, k] = 0
    if inside >= 0 and (inside < size or (outside != ZERO and inside <= size)):
        cell = min(int(inside), size - 1)
        row = min(cell, last)
        u = kind(inside - cell)
        if slope:
            _slopes(u, degree, values, k, cell - row)
        else:
            _pieces(u, degree, values, k, cell - row)
        if inside != position and outside == CLAMP and slope:
            values[:, k] = 0
        if inside != position and outside == LINEAR and not slope:
            beyond = kind(position - inside)
            spare[:, 0] = 0
            _slopes(u, degree, spare, 0, cell - row)
            for m in range(LIVE):
                values[m, k] += beyond * spare[m, 0]
        return row
    if position >= -degree and position < size + degree:
        # The bases that reach beyond the grid: of the cell's, those which exist.
        cell = int(np.floor(position))
        row = min(max(cell, 0), last)
        if slope:
            _slopes(kind(position - cell), degree, spare, 0, 0)
        else:
            _pieces(kind(position - cell), degree, spare, 0, 0)
        for m in range(degree + 1):
            if 0 <= cell + m - row < LIVE and 0 <= cell + m < size + degree:
                values[cell + m - row, k] = spare[m, 0]
        return row
    if position != position:
        values[:, k] = np.nan
    return 0


@njit(**OPTIONS)
def _locate_all(  # type: ignore[no-untyped-def]
    x, i, apart, low, cells, size, degree, outside, slope, start, stop, found
):
    """``_locate`` for the samples start to stop of an input, but those set apart.

    Args:
        found: from ``_room``, to be filled.
    Returns: how many there are.
    """
    positions, samples = found[:2]
    n = 0
    if apart.size:
        for b in range(start, stop):  # written over if set apart: faster than a branch
            positions[n] = (np.float64(x[b, i]) - low[i]) * cells[i]
            samples[n] = b
            n += x[b, i] != apart[i]
    else:
        n = stop - start
        for k in range(n):
            positions[k] = (np.float64(x[start + k, i]) - low[i]) * cells[i]
            samples[k] = start + k
    _evaluate(n, size, degree, outside, slope, found)
    return n


@njit(**OPTIONS)
def _evaluate(n, size, degree, outside, slope, found):  # type: ignore[no-untyped-def]
    """``_locate`` for the first ``n`` positions found; cubics without a branch."""
    positions, _, rows, values, spare = found
    kind = values.dtype.type
    n_inside = 0
    for k in range(n):
        n_inside += (positions[k] >= 0) & (positions[k] <= size)
    if degree == 3 and (n_inside == n or outside == ZERO):
        last = np.float64(size - 1)
        for k in range(n):
            # A position off the grid, or NaN, is taken to be in the first or last cell.
            near = positions[k] if positions[k] > 0 else 0.0
            rows[k] = np.int32(near if near < last else last)
            u = kind(positions[k] - rows[k])
            if slope:
                _slopes(u, 3, values, k, 0)
            else:
                _pieces(u, 3, values, k, 0)
        if n_inside < n:
            for m in range(LIVE):
                for k in range(n):
                    beyond = _far_cubic(
                        kind(positions[k] - rows[k]) - kind(m - 1), slope
                    )
                    inside = (positions[k] >= 0) & (positions[k] <= size)
                    values[m, k] = values[m, k] if inside else beyond
        return
    for k in range(n):
        rows[k] = _locate(positions[k], size, degree, outside, slope, values, k, spare)


@njit(forceinline=True, **OPTIONS)
def _far_cubic(distance, slope):  # type: ignore[no-untyped-def]
    """The cubic basis, or its slope, at a distance from its centre: anywhere, or NaN."""
    kind = type(distance)
    far = abs(distance)
    t = kind(0) if far >= 2 else kind(2) - far
    s = kind(0) if far >= 1 else kind(1) - far
    if slope:
        steep = (kind(4) * s * s - t * t) * kind(0.5)
        return steep if distance >= 0 else -steep
    return (t * t * t - kind(4) * s * s * s) * kind(1 / 6)


@njit(**OPTIONS)
def _room(n, kind):  # type: ignore[no-untyped-def]
    """Positions in cells, samples, first rows and values, ``n`` of each; and a spare.

    Of a few more, so that all can be read and written by whole vectors.
    """
    n += -n % LANES
    positions, samples = np.empty(n, np.float64), np.empty(n, np.int32)
    rows, values = np.empty(n, np.int32), np.empty((LIVE, n), kind)
    return positions, samples, rows, values, np.empty((LIVE, 1), kind)


@njit(**OPTIONS)
def _turn(n, values, in_turn, at):  # type: ignore[no-untyped-def]
    """Write ``values (LIVE, n or more)``, those of a place after the other, from ``at``.

    In whole vectors: up to ``LANES - 1`` places more than ``n``.
    """
    apiece, length = values.reshape(-1), values.shape[1]
    for k in range(0, n, LANES):
        live = interleave(
            load(apiece, k, LANES),
            load(apiece, k + length, LANES),
            load(apiece, k + 2 * length, LANES),
            load(apiece, k + 3 * length, LANES),
        )
        store(in_turn, at + k * LIVE, live)


@njit(**OPTIONS)
def backgrounds(x):  # type: ignore[no-untyped-def]
    """What most samples of an input may have in common, by a look at three of them.

    Returns: ``(in_features,)`` float64, NaN where the three disagree; without elements
        if they do at most inputs.
    """
    first, second, third = x[0], x[len(x) // 2], x[-1]
    common = np.empty(x.shape[1])
    n = 0
    for i in range(len(common)):
        agreed = second[i] == third[i]
        value = second[i] if agreed else first[i]
        agreed = agreed or first[i] == second[i] or first[i] == third[i]
        agreed = agreed and np.isfinite(value)
        common[i] = value if agreed else np.nan
        n += agreed
    return common if 2 * n >= len(common) else common[:0]


@njit(**OPTIONS)
def _is_apart(apart, i):  # type: ignore[no-untyped-def]
    return apart.size > 0 and apart[i] == apart[i]


@njit(**OPTIONS)
def _locate_apart(  # type: ignore[no-untyped-def]
    apart, low, cells, size, degree, outside, kind, start, stop
):
    """``_locate`` of the values set apart, of inputs start to stop; NaN where is none.

    Returns: as from ``_room``, a place per input; one at least.
    """
    found = _room(max(stop - start, 1), kind)
    n = min(apart.size, stop - start)
    for k in range(n):
        found[0][k] = (apart[start + k] - low[start + k]) * cells[start + k]
    _evaluate(n, size, degree, outside, False, found)
    return found


@njit(**OPTIONS)
def _spline_values(coefficients, scale, i, row, values, k, out):  # type: ignore
    """All splines of an input, at place ``k`` of ``values``, into ``out``."""
    for o in range(coefficients.shape[2]):
        value = values[0, k] * coefficients[i, row, o]
        for m in range(1, LIVE):
            value += values[m, k] * coefficients[i, row + m, o]
        out[o] = value * scale[i, o] if scale.size else value


@njit(**OPTIONS)
def _locate_live(  # type: ignore[no-untyped-def]
    x, apart, grid, first, last, start, stop, found, ends
):
    """``_locate`` for some inputs of some samples, but those set apart, by samples.

    Args:
        found: from ``_room``, to be filled; with inputs in place of samples.
        ends: of every sample's places among those found, to be filled.
    Returns: how many there are.
    """
    low, cells, size, degree, outside = grid
    positions, inputs = found[:2]
    n = 0
    for b in range(start, stop):
        if apart.size:
            for i in range(first, last):  # written over if set apart: no branch
                positions[n] = x[b, i]
                inputs[n] = i
                n += x[b, i] != apart[i]
        else:
            for i in range(first, last):
                positions[n] = x[b, i]
                inputs[n] = i
                n += 1
        ends[b - start] = n
    for k in range(n):
        positions[k] = (positions[k] - low[inputs[k]]) * cells[inputs[k]]
    _evaluate(n, size, degree, outside, False, found)
    return n


@njit(forceinline=True, **OPTIONS)
def _add_spline(  # type: ignore[no-untyped-def]
    weights, scales, place, i, live, at, n_outputs, o, sums, lanes
):
    """``sums`` of ``lanes`` outputs from ``o`` on, and a sample's splines of input i.

    Args:
        place: the first live row, among those of all inputs.
        live: values of the bases, ``LIVE`` from place ``at`` of them on.
    """
    v0 = splat(live[at * LIVE], literally(lanes))
    v1 = splat(live[at * LIVE + 1], literally(lanes))
    v2 = splat(live[at * LIVE + 2], literally(lanes))
    v3 = splat(live[at * LIVE + 3], literally(lanes))
    w0 = place * n_outputs + o
    w1, w2, w3 = w0 + n_outputs, w0 + 2 * n_outputs, w0 + 3 * n_outputs
    if scales.size:
        value = multiply(v0, load(weights, w0, literally(lanes)))
        value = multiply_add(v1, load(weights, w1, literally(lanes)), value)
        value = multiply_add(v2, load(weights, w2, literally(lanes)), value)
        value = multiply_add(v3, load(weights, w3, literally(lanes)), value)
        s = np.int64(i) * n_outputs + o
        return multiply_add(load(scales, s, literally(lanes)), value, sums)
    sums = multiply_add(v0, load(weights, w0, literally(lanes)), sums)
    sums = multiply_add(v1, load(weights, w1, literally(lanes)), sums)
    sums = multiply_add(v2, load(weights, w2, literally(lanes)), sums)
    return multiply_add(v3, load(weights, w3, literally(lanes)), sums)


@njit(forceinline=True, **OPTIONS)
def _tiles(n_outputs, widest):  # type: ignore[no-untyped-def]
    """Where tiles of the widest end, then those of ``LANES``, then those of two."""
    return (
        n_outputs - n_outputs % widest,
        n_outputs - n_outputs % LANES,
        n_outputs - n_outputs % 2,
    )


@njit(**OPTIONS)
def _add_live(given, n_outputs, o, lanes):  # type: ignore[no-untyped-def]
    """Add the splines found to ``lanes`` outputs of some samples, less those set aside.

    Args:
        given: coefficients, scales, what is set aside for each input; of each place
            found its input, first row and values; the samples' ends among these; the
            outputs, the samples' first and last.
        o: the first output.
    """
    weights, scales, aside, inputs, places, live, ends, y, start, stop = given
    at = 0
    for b in range(start, stop):
        sums = load(y, b * n_outputs + o, literally(lanes))
        for at in range(at, ends[b - start]):
            sums = _add_spline(
                weights,
                scales,
                places[at],
                inputs[at],
                live,
                at,
                n_outputs,
                o,
                sums,
                lanes,
            )
            t = np.int64(inputs[at] % PASSING) * n_outputs + o
            sums = subtract(sums, load(aside, t, literally(lanes)))
        at = ends[b - start]
        store(y, b * n_outputs + o, sums)


@njit(**OPTIONS)
def _add_tile(given, n_outputs, o, lanes):  # type: ignore[no-untyped-def]
    """Add the splines of some inputs to ``lanes`` outputs of some samples.

    Args:
        given: coefficients, scales, places ``(TOGETHER, SAMPLES)``, the first row for
            every input and sample, values ``(TOGETHER, SAMPLES, LIVE)``, the inputs'
            first and last, the outputs, the samples' first and last.
        o: the first output.
    """
    weights, scales, places, values, first, last, y, start, stop = given
    for b in range(start, stop):
        sums = load(y, b * n_outputs + o, literally(lanes))
        for i in range(first, last):
            live, place = values[i - first, b - start], places[i - first, b - start]
            sums = _add_spline(
                weights, scales, place, i, live, 0, n_outputs, o, sums, lanes
            )
        store(y, b * n_outputs + o, sums)


@njit(**OPTIONS)
def _fetch(array, start, n):  # type: ignore[no-untyped-def]
    """Have ``n`` elements from ``start`` brought near, as far as there are."""
    for at in range(start, min(start + n, array.size), 64 // array.itemsize):
        prefetch(array, at)


@njit(**OPTIONS)
def _spline_sum_of_all(  # type: ignore[no-untyped-def]
    x, apart, grid, coefficients, scale, y, start, stop
):
    """``spline_sum`` where nothing is set apart: sums stay in registers over inputs."""
    low, cells, size, degree, outside = grid
    n_inputs, n_basis, n_outputs = coefficients.shape
    kind = coefficients.dtype
    found = _room(SAMPLES, kind)
    rows = found[2]
    places = np.empty((TOGETHER, SAMPLES), np.int64)
    values = np.empty((TOGETHER, SAMPLES, LIVE), kind)
    in_turn = values.reshape(-1)
    weights, scales, outputs = (
        coefficients.reshape(-1),
        scale.reshape(-1),
        y.reshape(-1),
    )
    widest = HALF if scale.size else WIDE
    wide, whole, pairs = _tiles(n_outputs, widest)
    ahead = TOGETHER * n_basis * n_outputs  # coefficients of the inputs that come next
    for first in range(0, n_inputs, TOGETHER):
        last = min(first + TOGETHER, n_inputs)
        for a in range(start, stop, SAMPLES):
            b = min(a + SAMPLES, stop)
            for i in range(first, last):
                j = i - first
                _locate_all(
                    x, i, apart, low, cells, size, degree, outside, False, a, b, found
                )
                for k in range(b - a):
                    places[j, k] = i * n_basis + rows[k]
                _turn(b - a, found[3], in_turn, j * SAMPLES * LIVE)
            given = weights, scales, places, values, first, last, outputs, a, b
            for o in range(0, wide, widest):
                if a == start:
                    begin = last * n_basis * n_outputs
                    _fetch(weights, begin + ahead * o // wide, ahead * widest // wide)
                if scale.size:
                    _add_tile(given, n_outputs, o, HALF)
                else:
                    _add_tile(given, n_outputs, o, WIDE)
            for o in range(wide, whole, LANES):
                _add_tile(given, n_outputs, o, LANES)
            for o in range(whole, pairs, 2):
                _add_tile(given, n_outputs, o, 2)
            for o in range(pairs, n_outputs):
                _add_tile(given, n_outputs, o, 1)


@njit(**OPTIONS)
def spline_sum(  # type: ignore[no-untyped-def]
    x,
    apart,
    anchored,
    low,
    cells,
    size,
    degree,
    outside,
    coefficients,
    scale,
    y,
    start,
    stop,
):
    """Add ``sum_i scale_io sum_g c_igo B_g(x_bi)`` to ``y``, samples start to stop."""
    if not apart.size:
        grid = low, cells, size, degree, outside
        _spline_sum_of_all(x, apart, grid, coefficients, scale, y, start, stop)
        return
    n_inputs, n_basis, n_outputs = coefficients.shape
    kind = coefficients.dtype
    grid = low, cells, size, degree, outside
    found = _room(SAMPLES * PASSING, kind)
    live = np.empty(found[3].size, kind)
    places = np.empty(SAMPLES * PASSING, np.int64)
    ends = np.empty(SAMPLES, np.int64)
    at_apart = _locate_apart(
        apart, low, cells, size, degree, outside, kind, 0, n_inputs
    )
    at_rows, at_values = at_apart[2], at_apart[3]
    aside = np.zeros((PASSING, n_outputs), kind)  # splines' values there
    common = np.zeros(n_outputs, kind)  # added for all, if not anchored
    weights, scales = coefficients.reshape(-1), scale.reshape(-1)
    taken, outputs = aside.reshape(-1), y.reshape(-1)
    widest = HALF if scale.size else WIDE
    wide, whole, pairs = _tiles(n_outputs, widest)
    for first in range(0, n_inputs, PASSING):
        last = min(first + PASSING, n_inputs)
        for i in range(first, last):
            if _is_apart(apart, i):
                _spline_values(
                    coefficients, scale, i, at_rows[i], at_values, i, aside[i - first]
                )
                for o in range(n_outputs):
                    common[o] += aside[i - first, o]
            else:
                aside[i - first] = 0
        for a in range(start, stop, SAMPLES):
            b = min(a + SAMPLES, stop)
            n = _locate_live(x, apart, grid, first, last, a, b, found, ends)
            _turn(n, found[3], live, 0)
            for k in range(n):
                places[k] = np.int64(found[1][k]) * n_basis + found[2][k]
            given = weights, scales, taken, found[1], places, live, ends, outputs, a, b
            for o in range(0, wide, widest):
                if scale.size:
                    _add_live(given, n_outputs, o, HALF)
                else:
                    _add_live(given, n_outputs, o, WIDE)
            for o in range(wide, whole, LANES):
                _add_live(given, n_outputs, o, LANES)
            for o in range(whole, pairs, 2):
                _add_live(given, n_outputs, o, 2)
            for o in range(pairs, n_outputs):
                _add_live(given, n_outputs, o, 1)
    if not anchored:
        for b in range(start, stop):
            for o in range(n_outputs):
                y[b, o] += common[o]


@njit(**OPTIONS)
def _sort_by_row(  # type: ignore[no-untyped-def]
    first, n_rows, found, in_turn, last_of, ends, samples, values
):
    """Bring the places found into the order of their inputs, and rows, and samples.

    Args:
        first: the first input.
        found, last_of: from ``_locate_live``.
        in_turn: to work with, as long as the values found.
        ends: of every row's places among the sorted ones, to be filled.
        samples, values: of the sorted ones, to be filled.
    """
    inputs, rows = found[1], found[2]
    ends[:] = 0
    n = last_of[-1]
    for k in range(n):
        rows[k] += (inputs[k] - first) * n_rows
        ends[rows[k] + 1] += 1
    for row in range(1, len(ends) - 1):
        ends[row + 1] += ends[row]
    _turn(n, found[3], in_turn, 0)
    in_order = values.reshape(-1)
    k = 0
    for b in range(len(last_of)):
        for k in range(k, last_of[b]):
            place = ends[rows[k]]
            ends[rows[k]] = place + 1
            samples[place] = b
            store(in_order, place * LIVE, load(in_turn, k * LIVE, LIVE))
        k = last_of[b]


@njit(**OPTIONS)
def _sum_rows(  # type: ignore[no-untyped-def]
    grads, offset, samples, values, ends, first_row, n_rows, sums
):
    """Sums of gradients times values for every row, in a block of columns.

    Going up the rows, the sums of the ``LIVE`` rows at hand stay in registers, and every
    row is written once.

    Args:
        offset: the block's first sample in ``grads``.
        first_row: of the input, among all rows of ``ends``.
        sums: ``(n_rows + LIVE - 1, BLOCK)``, to be overwritten.
    """
    zero = splat(sums.dtype.type(0), BLOCK)
    s0, s1, s2, s3 = zero, zero, zero, zero
    k = ends[first_row - 1] if first_row else 0
    for row in range(n_rows):
        for k in range(k, ends[first_row + row]):
            grad = load(grads, (offset + np.int64(samples[k])) * BLOCK, BLOCK)
            s0 = multiply_add(splat(values[k, 0], BLOCK), grad, s0)
            s1 = multiply_add(splat(values[k, 1], BLOCK), grad, s1)
            s2 = multiply_add(splat(values[k, 2], BLOCK), grad, s2)
            s3 = multiply_add(splat(values[k, 3], BLOCK), grad, s3)
        k = ends[first_row + row]
        store(sums, row * BLOCK, s0)
        s0, s1, s2, s3 = s1, s2, s3, zero
    store(sums, n_rows * BLOCK, s0)
    store(sums, (n_rows + 1) * BLOCK, s1)
    store(sums, (n_rows + 2) * BLOCK, s2)


@njit(**OPTIONS)
def coefficient_gradient(  # type: ignore[no-untyped-def]
    x,
    apart,
    anchored,
    low,
    cells,
    size,
    degree,
    outside,
    coefficients,
    scale,
    grad_y,
    gradient,
    scale_gradient,
    start,
    stop,
):
    """Overwrite ``gradient`` and, if it has elements, ``scale_gradient``.

    The samples of an input are sorted by cell.

    Args:
        grad_y: ``(n_blocks, batch, BLOCK)``, zeros in columns that don't exist.
        start, stop: inputs.
    """
    batch = x.shape[0]
    n_basis, n_outputs = coefficients.shape[1:]
    n_rows = n_basis - LIVE + 1  # to start from
    far_apart = n_basis * n_outputs >= FAR
    kind = coefficients.dtype
    zero = splat(kind.type(0), BLOCK)
    grid = low, cells, size, degree, outside
    found = _room(INPUTS * batch, kind)
    values = np.empty((INPUTS * batch, LIVE), kind)
    samples = np.empty(INPUTS * batch, np.int32)
    in_turn = np.empty(found[3].size, kind)
    last_of, ends = np.empty(batch, np.int64), np.empty(INPUTS * n_rows + 1, np.int64)
    at_apart = _locate_apart(
        apart, low, cells, size, degree, outside, kind, start, stop
    )
    at_rows, at_values = at_apart[2], at_apart[3]
    everything = np.zeros((grad_y.shape[0], BLOCK), kind)  # gradients of all samples
    if apart.size and not anchored:
        for number in range(grad_y.shape[0]):
            for b in range(batch):
                for m in range(BLOCK):
                    everything[number, m] += grad_y[number, b, m]
    sums = np.empty(n_basis * BLOCK, kind)  # of a block
    grads, weights = grad_y.reshape(-1), coefficients.reshape(-1)
    results, scales = gradient.reshape(-1), scale.reshape(-1)
    scale_results, of_all = scale_gradient.reshape(-1), everything.reshape(-1)
    for first in range(start, stop, INPUTS):
        n_inputs = min(INPUTS, stop - first)
        _locate_live(x, apart, grid, first, first + n_inputs, 0, batch, found, last_of)
        _sort_by_row(first, n_rows, found, in_turn, last_of, ends, samples, values)
        for number in range(grad_y.shape[0]):
            o = number * BLOCK
            for j in range(n_inputs):
                i = first + j
                if far_apart and o + 2 * BLOCK <= n_outputs:
                    for row in range(n_basis):
                        prefetch(results, (i * n_basis + row) * n_outputs + o + BLOCK)
                _sum_rows(
                    grads,
                    number * batch,
                    samples,
                    values,
                    ends,
                    j * n_rows,
                    n_rows,
                    sums,
                )
                if _is_apart(apart, i):
                    # Of those set apart, what they have; or of the others, what the
                    # anchor takes from them.
                    rest = load(of_all, o, BLOCK)
                    begin = ends[j * n_rows - 1] if j else 0
                    for k in range(begin, ends[(j + 1) * n_rows - 1]):
                        at = (number * batch + np.int64(samples[k])) * BLOCK
                        rest = subtract(rest, load(grads, at, BLOCK))
                    for q in range(LIVE):
                        at = (at_rows[i - start] + q) * BLOCK
                        v = splat(at_values[q, i - start], BLOCK)
                        store(sums, at, multiply_add(v, rest, load(sums, at, BLOCK)))
                if o + BLOCK <= n_outputs and scale.size:
                    s = i * n_outputs + o
                    factor, of_scale = load(scales, s, BLOCK), zero
                    for row in range(n_basis):
                        at = (i * n_basis + row) * n_outputs + o
                        value = load(sums, row * BLOCK, BLOCK)
                        of_scale = multiply_add(
                            value, load(weights, at, BLOCK), of_scale
                        )
                        store(results, at, multiply(value, factor))
                    store(scale_results, s, of_scale)
                elif o + BLOCK <= n_outputs:
                    for row in range(n_basis):
                        at = (i * n_basis + row) * n_outputs + o
                        store(results, at, load(sums, row * BLOCK, BLOCK))
                else:
                    for row in range(n_basis):
                        for m in range(n_outputs - o):
                            value = sums[row * BLOCK + m]
                            if scale.size:
                                weight = coefficients[i, row, o + m]
                                scale_gradient[i, o + m] += value * weight
                                value *= scale[i, o + m]
                            gradient[i, row, o + m] = value


@njit(**OPTIONS)
def input_gradient(  # type: ignore[no-untyped-def]
    x,
    apart,
    anchored,
    low,
    cells,
    size,
    degree,
    outside,
    coefficients,
    scale,
    grad_y,
    gradient,
    start,
    stop,
):
    """Overwrite ``gradient (batch, in_features)``, inputs start to stop.

    Args:
        grad_y: ``(batch, n_outputs)``.
    """
    batch = x.shape[0]
    n_basis, n_outputs = coefficients.shape[1:]
    whole = n_outputs - n_outputs % LANES
    found = _room(batch, coefficients.dtype)
    rows, values = found[2], found[3]
    nowhere = apart[:0]  # the slope is wanted for every sample
    grads, weights, scales = (
        grad_y.reshape(-1),
        coefficients.reshape(-1),
        scale.reshape(-1),
    )
    zero = splat(coefficients.dtype.type(0), LANES)
    for i in range(start, stop):
        _locate_all(
            x, i, nowhere, low, cells, size, degree, outside, True, 0, batch, found
        )
        for b in range(batch):
            w0 = (i * n_basis + rows[b]) * n_outputs
            w1, w2, w3 = w0 + n_outputs, w0 + 2 * n_outputs, w0 + 3 * n_outputs
            s0, s1, s2, s3 = zero, zero, zero, zero
            for o in range(0, whole, LANES):
                grad = load(grads, b * n_outputs + o, LANES)
                if scale.size:
                    grad = multiply(grad, load(scales, i * n_outputs + o, LANES))
                s0 = multiply_add(grad, load(weights, w0 + o, LANES), s0)
                s1 = multiply_add(grad, load(weights, w1 + o, LANES), s1)
                s2 = multiply_add(grad, load(weights, w2 + o, LANES), s2)
                s3 = multiply_add(grad, load(weights, w3 + o, LANES), s3)
            sums = multiply(splat(values[0, b], LANES), s0)
            sums = multiply_add(splat(values[1, b], LANES), s1, sums)
            sums = multiply_add(splat(values[2, b], LANES), s2, sums)
            result = total(multiply_add(splat(values[3, b], LANES), s3, sums))
            for o in range(whole, n_outputs):
                part = (
                    values[0, b] * weights[w0 + o]
                    + values[1, b] * weights[w1 + o]
                    + values[2, b] * weights[w2 + o]
                    + values[3, b] * weights[w3 + o]
                )
                if scale.size:
                    part *= scale[i, o]
                result += part * grad_y[b, o]
            gradient[b, i] = result * cells[i]
