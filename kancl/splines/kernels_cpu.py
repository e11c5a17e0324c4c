"""The CPU's kernels, compiled by Numba: only rows of live bases are touched.

At a point at most ``degree + 1 <= LIVE`` bases are not 0, those of neighbouring rows of
the coefficients ``(in_features, n_basis, out_features)``: one contiguous block, whatever
the grid size. A few inputs at a time, so that their rows stay in the fastest cache.

All kernels take ``x (batch, in_features)``; ``background``, a value per input that is
not worked on sample by sample, NaN for none, or empty: the anchor (``anchored``), where
nothing is added, or else a value that many samples have, whose part is added for all and
taken off for those that differ; ``grid``: low ends and cells per unit of x,
``(in_features,)`` float64, grid size, degree and policy outside; ``scale (in_features,
out_features)``, or empty; ``start`` and ``stop``, their part of the work.

A place is an input of a sample. ``live`` are buffers for some places: positions in
cells, inputs, first live rows, values of the bases ``(LIVE, n)``, and scratch.
"""

# Numba compiles these functions for the types that they meet: no annotations.
# mypy: disable-error-code="no-untyped-def"

from typing import Any

import numpy as np
from numba import literally, njit

from kancl.splines.simd import (
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
TOGETHER = 8  # inputs whose splines pass over them
PASSING = 16  # inputs of which some are live that pass over them
INPUTS = 8  # inputs that pass over a block of the outputs' gradient in turn
FAR = 4096  # coefficients per input from which on their gradient is fetched ahead
ZERO, CLAMP, LINEAR = 0, 1, 2  # policies outside the grid

OPTIONS: dict[str, Any] = dict(
    nogil=True,
    error_model="numpy",
    fastmath={"contract"},
    boundscheck=False,
    no_cfunc_wrapper=True,
)
# Only called by kernels: half as much to compile. Literals are other types, each compiled
# by itself: so numbers are literal only where the compiler has to know them.
INNER = OPTIONS | {"no_cpython_wrapper": True}


@njit(forceinline=True, **INNER)
def _pieces(u, degree, slope, values, k, shift):
    """The ``degree + 1`` polynomials of a cell at ``u`` in [0, 1] of it, or slopes."""
    one, half = values.dtype.type(1), values.dtype.type(0.5)
    w = one - u
    if degree == 3 and slope:
        values[shift, k] = -w * w * half
        values[shift + 1, k] = u * (u * (one + half) - (one + one))
        values[shift + 2, k] = w * ((one + one) - w * (one + half))
        values[shift + 3, k] = u * u * half
    elif degree == 3:
        sixth, two_thirds = values.dtype.type(1 / 6), values.dtype.type(2 / 3)
        values[shift, k] = w * w * w * sixth
        values[shift + 1, k] = two_thirds + u * u * (u * half - one)
        values[shift + 2, k] = two_thirds + w * w * (w * half - one)
        values[shift + 3, k] = u * u * u * sixth
    elif degree == 2:
        values[shift, k] = -w if slope else w * w * half
        values[shift + 1, k] = w - u if slope else half + u * w
        values[shift + 2, k] = u if slope else u * u * half
    else:
        values[shift, k] = -one if slope else w
        values[shift + 1, k] = one if slope else u


@njit(**INNER)
def _locate(position, size, degree, outside, slope, values, k, scratch):
    """Fill ``values[:, k]``, or slopes, of the ``LIVE`` rows from the returned one on."""
    last = size + degree - LIVE  # the last row to start from
    kind, zero = values.dtype.type, np.int64(0)
    inside = position
    if outside != ZERO:
        inside = min(max(position, 0.0), float(size))
    for m in range(LIVE):
        values[m, k] = 0
    if inside >= 0 and (inside < size or (outside != ZERO and inside <= size)):
        cell = min(int(inside), size - 1)
        row = min(cell, last)
        u = kind(inside - cell)
        _pieces(u, degree, slope, values, k, cell - row)
        if inside != position and outside == CLAMP and slope:
            for m in range(LIVE):
                values[m, k] = 0
        if inside != position and outside == LINEAR and not slope:
            beyond = kind(position - inside)
            for m in range(LIVE):
                scratch[m, 0] = 0
            _pieces(u, degree, not slope, scratch, zero, cell - row)
            for m in range(LIVE):
                values[m, k] += beyond * scratch[m, 0]
        return row
    if position >= -degree and position < size + degree:
        # The bases that reach beyond the grid: of the cell's, those which exist.
        cell = int(np.floor(position))
        row = min(max(cell, 0), last)
        _pieces(kind(position - cell), degree, slope, scratch, zero, zero)
        for m in range(degree + 1):
            if 0 <= cell + m - row < LIVE and 0 <= cell + m < size + degree:
                values[cell + m - row, k] = scratch[m, 0]
        return row
    if position != position:
        for m in range(LIVE):
            values[m, k] = np.nan
    return 0


@njit(**INNER)
def _evaluate(n, grid, slope, live):
    """``_locate`` for the first ``n`` places; cubics without a branch."""
    _, _, size, degree, outside = grid
    positions, _, rows, values, scratch = live
    kind, steep = values.dtype.type, bool(slope)  # not literal
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
                _pieces(u, 3, True, values, k, 0)
            else:
                _pieces(u, 3, False, values, k, 0)
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
        rows[k] = _locate(
            positions[k], size, degree, outside, steep, values, k, scratch
        )


@njit(forceinline=True, **INNER)
def _far_cubic(distance, slope):
    """The cubic basis, or its slope, at a distance from its centre: anywhere, or NaN."""
    kind = type(distance)
    far = abs(distance)
    t = kind(0) if far >= 2 else kind(2) - far
    s = kind(0) if far >= 1 else kind(1) - far
    if slope:
        steep = (kind(4) * s * s - t * t) * kind(0.5)
        return steep if distance >= 0 else -steep
    return (t * t * t - kind(4) * s * s * s) * kind(1 / 6)


@njit(**INNER)
def _buffers(n, kind):
    """``live`` for ``n`` places, and a few more to fill whole vectors."""
    n += -n % LANES
    positions, inputs = np.empty(n, np.float64), np.empty(n, np.int32)
    rows, values = np.empty(n, np.int32), np.empty((LIVE, n), kind)
    return positions, inputs, rows, values, np.empty((LIVE, 1), kind)


@njit(**INNER)
def _transpose(n, values, in_turn):
    """Write ``values (LIVE, n or more)`` one place after the other, in whole vectors."""
    flat, length = values.reshape(-1), values.shape[1]
    for k in range(0, n, LANES):
        turned = interleave(
            load(flat, k, LANES),
            load(flat, k + length, LANES),
            load(flat, k + 2 * length, LANES),
            load(flat, k + 3 * length, LANES),
        )
        store(in_turn, k * LIVE, turned)


@njit(**OPTIONS)
def backgrounds(x):
    """What most samples of an input may have in common, by a look at three of them.

    ``(in_features,)`` float64, NaN where the three disagree; empty if most inputs do.
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


@njit(**INNER)
def _locate_background(background, grid, kind, start, stop):
    """First rows and values of the bases at inputs' background, NaN where is none."""
    low, cells = grid[:2]
    live = _buffers(max(stop - start, 1), kind)
    n = min(background.size, stop - start)
    for k in range(n):
        live[0][k] = (background[start + k] - low[start + k]) * cells[start + k]
    _evaluate(n, grid, False, live)
    return live[2], live[3]


@njit(**INNER)
def _locate_live(x, background, grid, first, last, start, stop, live, ends):
    """Fill ``live`` with places that are not background, of inputs first to last.

    Sample by sample, and ``ends`` with where those of every sample end.
    """
    low, cells = grid[:2]
    positions, inputs = live[:2]
    n = np.int64(0)
    for b in range(start, stop):
        for i in range(first, last):  # written over if background: no branch
            positions[n] = x[b, i]
            inputs[n] = i
            n += not background.size or x[b, i] != background[i]
        ends[b - start] = n
    for k in range(n):
        positions[k] = (positions[k] - low[inputs[k]]) * cells[inputs[k]]
    _evaluate(n, grid, False, live)
    return n


@njit(forceinline=True, **INNER)
def _add_spline(splines, row, i, values, at, n_outputs, o, sums, lanes):
    """``sums`` of ``lanes`` outputs from ``o`` on, and the splines of place ``at``."""
    weights, scales = splines
    v0 = splat(values[at * LIVE], literally(lanes))
    v1 = splat(values[at * LIVE + 1], literally(lanes))
    v2 = splat(values[at * LIVE + 2], literally(lanes))
    v3 = splat(values[at * LIVE + 3], literally(lanes))
    w0 = row * n_outputs + o
    w1, w2, w3 = w0 + n_outputs, w0 + 2 * n_outputs, w0 + 3 * n_outputs
    # Told apart as a whole, or the compiler separates products from their sums.
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


@njit(**INNER)
def _add_live(given, n_outputs, o, lanes):
    """Add the splines of live places to outputs from ``o`` on, less the background's.

    Args:
        given: coefficients and scales; what the background gives, by input, or empty;
            places' inputs, first rows among all, values, ends by sample; outputs.
    """
    splines, there, inputs, rows, values, ends, y, start, stop = given
    at = 0
    for b in range(start, stop):
        sums = load(y, b * n_outputs + o, literally(lanes))
        for at in range(at, ends[b - start]):
            i, row = inputs[at], rows[at]
            sums = _add_spline(splines, row, i, values, at, n_outputs, o, sums, lanes)
            if there.size:
                t = np.int64(i % PASSING) * n_outputs + o
                sums = subtract(sums, load(there, t, literally(lanes)))
        at = ends[b - start]
        store(y, b * n_outputs + o, sums)


@njit(**OPTIONS)
def spline_sum(x, background, anchored, grid, coefficients, scale, y, start, stop):
    """Add ``sum_i scale_io sum_g c_igo B_g(x_bi)`` to ``y``, samples start to stop."""
    n_inputs, n_basis, n_outputs = coefficients.shape
    kind, has_background = coefficients.dtype, background.size > 0
    together = PASSING if has_background else TOGETHER
    live = _buffers(SAMPLES * together, kind)
    values, rows = np.empty(live[3].size, kind), np.empty(SAMPLES * together, np.int64)
    ends = np.empty(SAMPLES, np.int64)
    there_rows, there_values = _locate_background(
        background, grid, kind, np.int64(0), n_inputs
    )
    there = np.empty((PASSING * has_background, n_outputs), kind)  # splines' values
    common = np.empty(n_outputs, kind)  # added for all, if not anchored
    for o in range(n_outputs):
        common[o] = 0
    splines = coefficients.reshape(-1), scale.reshape(-1)
    off, outputs = there.reshape(-1), y.reshape(-1)
    widest = HALF if scale.size else WIDE
    wide, whole = n_outputs - n_outputs % widest, n_outputs - n_outputs % LANES
    pairs = n_outputs - n_outputs % 2
    ahead = together * n_basis * n_outputs
    for first in range(0, n_inputs, together):
        last = min(first + together, n_inputs)
        for i in range(first, min(last, background.size)):
            for o in range(n_outputs):
                there[i - first, o] = 0
            if background[i] != background[i]:
                continue
            row = there_rows[i]
            for o in range(n_outputs):
                value = there_values[0, i] * coefficients[i, row, o]
                for m in range(1, LIVE):
                    value += there_values[m, i] * coefficients[i, row + m, o]
                there[i - first, o] = value * scale[i, o] if scale.size else value
            for o in range(n_outputs):
                common[o] += there[i - first, o]
        for a in range(start, stop, SAMPLES):
            b = min(a + SAMPLES, stop)
            n = _locate_live(x, background, grid, first, last, a, b, live, ends)
            _transpose(n, live[3], values)
            for k in range(n):
                rows[k] = np.int64(live[1][k]) * n_basis + live[2][k]
            given = splines, off, live[1], rows, values, ends, outputs, a, b
            for o in range(0, wide, widest):
                if a == start and not has_background:  # of the inputs that come next
                    begin = last * n_basis * n_outputs + ahead * o // wide
                    end = min(begin + ahead * widest // wide, coefficients.size)
                    for at in range(begin, end, 64 // coefficients.itemsize):
                        prefetch(splines[0], at)
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


@njit(**INNER)
def _sort_by_row(first, n_rows, live, in_turn, last_of, ends, samples, values):
    """Bring live places into the order of their inputs, and rows, and samples.

    Fills ``samples`` and ``values``, and ``ends`` of every row's places among them.
    ``in_turn`` is scratch; ``last_of`` says where the places of every sample end.
    """
    inputs, rows = live[1], live[2]
    for k in range(len(ends)):
        ends[k] = 0
    n = last_of[-1]
    for k in range(n):
        rows[k] += (inputs[k] - first) * n_rows
        ends[rows[k] + 1] += 1
    for row in range(1, len(ends) - 1):
        ends[row + 1] += ends[row]
    _transpose(n, live[3], in_turn)
    in_order = values.reshape(-1)
    k = 0
    for b in range(len(last_of)):
        for k in range(k, last_of[b]):
            place = ends[rows[k]]
            ends[rows[k]] = place + 1
            samples[place] = b
            store(in_order, place * LIVE, load(in_turn, k * LIVE, LIVE))
        k = last_of[b]


@njit(**INNER)
def _sum_rows(grads, offset, samples, values, ends, first_row, n_rows, sums):
    """Sums of gradients times values for every row, in a block of columns.

    Going up the rows, the sums of the ``LIVE`` rows at hand stay in registers, and every
    row of ``sums (n_rows + LIVE - 1, BLOCK)`` is written once. ``offset``: the block's
    first sample in ``grads``; ``first_row``: the input's, among all rows of ``ends``.
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


# fmt: off
@njit(**OPTIONS)
def coefficient_gradient(
    x, background, anchored, grid, coefficients, scale, grad_y,
    grad_coefficients, grad_scale, start, stop,
):  # fmt: on
    """Overwrite ``grad_coefficients`` and, if it has elements, ``grad_scale``.

    The samples of an input are sorted by cell.

    Args:
        grad_y: ``(n_blocks, batch, BLOCK)``, zeros in columns that don't exist.
        start, stop: inputs.
    """
    batch = x.shape[0]
    n_basis, n_outputs = coefficients.shape[1:]
    n_rows = n_basis - LIVE + 1  # to start from
    is_far = n_basis * n_outputs >= FAR
    kind, zero = coefficients.dtype, np.int64(0)
    live = _buffers(INPUTS * batch, kind)
    values = np.empty((INPUTS * batch, LIVE), kind)
    samples = np.empty(INPUTS * batch, np.int32)
    in_turn = np.empty(live[3].size, kind)
    last_of, ends = np.empty(batch, np.int64), np.empty(INPUTS * n_rows + 1, np.int64)
    there_rows, there_values = _locate_background(background, grid, kind, start, stop)
    of_all = np.empty(grad_y.shape[0] * BLOCK, kind)  # gradients of all samples
    for o in range(len(of_all)):
        of_all[o] = 0
    if background.size and not anchored:
        for number in range(grad_y.shape[0]):
            for b in range(batch):
                for m in range(BLOCK):
                    of_all[number * BLOCK + m] += grad_y[number, b, m]
    sums = np.empty(n_basis * BLOCK, kind)  # of a block
    grads, weights = grad_y.reshape(-1), coefficients.reshape(-1)
    scales = scale.reshape(-1)
    results, scale_results = grad_coefficients.reshape(-1), grad_scale.reshape(-1)
    for first in range(start, stop, INPUTS):
        n_inputs = min(INPUTS, stop - first)
        last = first + n_inputs
        _locate_live(x, background, grid, first, last, zero, batch, live, last_of)
        _sort_by_row(first, n_rows, live, in_turn, last_of, ends, samples, values)
        for number in range(grad_y.shape[0]):
            o = number * BLOCK
            offset = number * batch
            for j in range(n_inputs):
                i = first + j
                row_0 = j * n_rows
                if is_far and o + 2 * BLOCK <= n_outputs:
                    for row in range(n_basis):
                        prefetch(results, (i * n_basis + row) * n_outputs + o + BLOCK)
                _sum_rows(grads, offset, samples, values, ends, row_0, n_rows, sums)
                if background.size and background[i] == background[i]:
                    # The background's samples: what they have; or the others: what
                    # the anchor takes from them.
                    rest = load(of_all, o, BLOCK)
                    begin = ends[row_0 - 1] if j else 0
                    for k in range(begin, ends[row_0 + n_rows - 1]):
                        at = (offset + np.int64(samples[k])) * BLOCK
                        rest = subtract(rest, load(grads, at, BLOCK))
                    for q in range(LIVE):
                        at = (there_rows[i - start] + q) * BLOCK
                        v = splat(there_values[q, i - start], BLOCK)
                        store(sums, at, multiply_add(v, rest, load(sums, at, BLOCK)))
                if o + BLOCK > n_outputs:
                    for row in range(n_basis):
                        for m in range(n_outputs - o):
                            value = sums[row * BLOCK + m]
                            if scale.size:
                                weight = coefficients[i, row, o + m]
                                grad_scale[i, o + m] += value * weight
                                value *= scale[i, o + m]
                            grad_coefficients[i, row, o + m] = value
                    continue
                s, factor = i * n_outputs + o, splat(kind.type(1), BLOCK)
                sums_s = splat(kind.type(0), BLOCK)
                if scale.size:
                    factor = load(scales, s, BLOCK)
                for row in range(n_basis):
                    at = (i * n_basis + row) * n_outputs + o
                    value = load(sums, row * BLOCK, BLOCK)
                    if scale.size:
                        sums_s = multiply_add(value, load(weights, at, BLOCK), sums_s)
                        value = multiply(value, factor)
                    store(results, at, value)
                if scale.size:
                    store(scale_results, s, sums_s)


@njit(**OPTIONS)
def input_gradient(x, grid, coefficients, scale, grad_y, grad_x, start, stop):
    """Overwrite ``grad_x (batch, in_features)``, inputs start to stop."""
    batch, low, cells = x.shape[0], grid[0], grid[1]
    n_basis, n_outputs = coefficients.shape[1:]
    whole = n_outputs - n_outputs % LANES
    live = _buffers(batch, coefficients.dtype)
    rows, values = live[2], live[3]
    grads, weights = grad_y.reshape(-1), coefficients.reshape(-1)
    scales = scale.reshape(-1)
    zero = splat(coefficients.dtype.type(0), LANES)
    for i in range(start, stop):
        for b in range(batch):
            live[0][b] = (np.float64(x[b, i]) - low[i]) * cells[i]
        _evaluate(batch, grid, True, live)
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
            grad_x[b, i] = result * cells[i]
