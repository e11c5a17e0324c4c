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
from numba import njit

from kancl.splines.sparse.simd import (
    LANES,
    add,
    load,
    multiply,
    multiply_add,
    splat,
    store,
    subtract,
    total,
)

LIVE = 4  # rows that are read for a value; the highest degree is one less
BLOCK = 16  # columns of the outputs' gradient that are worked on together
CACHED = 4096  # outputs at a time, that stay in the fastest cache
TOGETHER = 16  # inputs that pass over them in turn
INPUTS = 4  # inputs that pass over a block of the outputs' gradient in turn
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
    positions, samples, rows, values, spare = found
    n = 0
    least, most = np.inf, -np.inf
    for b in range(start, stop):
        if apart.size and x[b, i] == apart[i]:
            continue
        position = (np.float64(x[b, i]) - low[i]) * cells[i]
        positions[n] = position
        samples[n] = b
        least = min(least, position) if position == position else -np.inf
        most = max(most, position)
        n += 1
    if degree == 3 and least >= 0 and most <= size:  # nearly always, and vectorised
        for k in range(n):
            rows[k] = min(np.int32(positions[k]), np.int32(size - 1))
            u = values.dtype.type(positions[k] - rows[k])
            if slope:
                _slopes(u, 3, values, k, 0)
            else:
                _pieces(u, 3, values, k, 0)
    else:
        for k in range(n):
            position = positions[k]
            if degree == 3 and position >= 0 and position <= size:
                rows[k] = min(np.int32(position), np.int32(size - 1))
                u = values.dtype.type(position - rows[k])
                if slope:
                    _slopes(u, 3, values, k, 0)
                else:
                    _pieces(u, 3, values, k, 0)
            elif outside == ZERO and (position < -degree or position >= size + degree):
                rows[k] = 0
                for m in range(LIVE):
                    values[m, k] = 0
            else:
                rows[k] = _locate(
                    position, size, degree, outside, slope, values, k, spare
                )
    return n


@njit(**OPTIONS)
def _room(n, kind):  # type: ignore[no-untyped-def]
    """Positions in cells, samples, first rows and values, ``n`` of each; and a spare."""
    positions, samples = np.empty(n, np.float64), np.empty(n, np.int32)
    rows, values = np.empty(n, np.int32), np.empty((LIVE, n), kind)
    return positions, samples, rows, values, np.empty((LIVE, 1), kind)


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
def _locate_apart(i, apart, low, cells, size, degree, outside, values):  # type: ignore
    """``_locate`` of the value set apart, into the first of ``values``."""
    position = (apart[i] - low[i]) * cells[i]
    spare = np.empty((LIVE, 1), values.dtype)
    return _locate(position, size, degree, outside, False, values, 0, spare)


@njit(**OPTIONS)
def _spline_values(coefficients, scale, i, row, values, out):  # type: ignore
    """All splines of an input, at the first of ``values``, into ``out``."""
    for o in range(coefficients.shape[2]):
        value = values[0, 0] * coefficients[i, row, o]
        for m in range(1, LIVE):
            value += values[m, 0] * coefficients[i, row + m, o]
        out[o] = value * scale[i, o] if scale.size else value


@njit(**OPTIONS)
def _add_splines(coefficients, scale, i, n, found, y):  # type: ignore[no-untyped-def]
    """Add all splines of an input to ``y``, at the ``n`` places found."""
    _, samples, rows, values, _ = found
    n_basis, n_outputs = coefficients.shape[1:]
    whole = n_outputs - n_outputs % LANES
    weights, scales, outputs = (
        coefficients.reshape(-1),
        scale.reshape(-1),
        y.reshape(-1),
    )
    for k in range(n):
        v0, v1 = splat(values[0, k]), splat(values[1, k])
        v2, v3 = splat(values[2, k]), splat(values[3, k])
        w0 = (i * n_basis + rows[k]) * n_outputs
        w1, w2, w3 = w0 + n_outputs, w0 + 2 * n_outputs, w0 + 3 * n_outputs
        out = np.int64(samples[k]) * n_outputs
        if scale.size:
            for o in range(0, whole, LANES):
                value = multiply(v0, load(weights, w0 + o))
                value = multiply_add(v1, load(weights, w1 + o), value)
                value = multiply_add(v2, load(weights, w2 + o), value)
                value = multiply_add(v3, load(weights, w3 + o), value)
                s = load(scales, i * n_outputs + o)
                value = multiply_add(s, value, load(outputs, out + o))
                store(outputs, out + o, value)
        else:
            for o in range(0, whole, LANES):
                value = load(outputs, out + o)
                value = multiply_add(v0, load(weights, w0 + o), value)
                value = multiply_add(v1, load(weights, w1 + o), value)
                value = multiply_add(v2, load(weights, w2 + o), value)
                value = multiply_add(v3, load(weights, w3 + o), value)
                store(outputs, out + o, value)
        if whole < n_outputs:
            for o in range(whole, n_outputs):
                part = (
                    values[0, k] * weights[w0 + o]
                    + values[1, k] * weights[w1 + o]
                    + values[2, k] * weights[w2 + o]
                    + values[3, k] * weights[w3 + o]
                )
                outputs[out + o] += part * scale[i, o] if scale.size else part


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
    n_inputs, _, n_outputs = coefficients.shape
    few = max(CACHED // n_outputs, 16)  # samples
    found = _room(few, coefficients.dtype)
    at_apart = np.empty((LIVE, 1), coefficients.dtype)
    aside = np.zeros((TOGETHER, n_outputs), coefficients.dtype)  # splines' values there
    common = np.zeros(n_outputs, coefficients.dtype)  # added for all, if not anchored
    for first in range(0, n_inputs, TOGETHER):
        last = min(first + TOGETHER, n_inputs)
        for i in range(first, last):
            if _is_apart(apart, i):
                row = _locate_apart(
                    i, apart, low, cells, size, degree, outside, at_apart
                )
                _spline_values(coefficients, scale, i, row, at_apart, aside[i - first])
                for o in range(n_outputs):
                    common[o] += aside[i - first, o]
        for a in range(start, stop, few):
            b = min(a + few, stop)
            for i in range(first, last):
                n = _locate_all(
                    x, i, apart, low, cells, size, degree, outside, False, a, b, found
                )
                _add_splines(coefficients, scale, i, n, found, y)
                if _is_apart(apart, i):
                    taken = aside[i - first]
                    for k in range(n):
                        outputs = y[found[1][k]]
                        for o in range(n_outputs):
                            outputs[o] -= taken[o]
    if apart.size and not anchored:
        for b in range(start, stop):
            for o in range(n_outputs):
                y[b, o] += common[o]


@njit(**OPTIONS)
def _sort_by_row(n, found, ends, samples, values):  # type: ignore[no-untyped-def]
    """Bring the ``n`` places found into the order of their rows.

    Args:
        ends: of every row's places among the sorted ones, to be filled.
    """
    ends[:] = 0
    for k in range(n):
        ends[found[2][k] + 1] += 1
    for row in range(1, len(ends) - 1):
        ends[row + 1] += ends[row]
    for k in range(n):
        row = found[2][k]
        place = ends[row]
        ends[row] = place + 1
        samples[place] = found[1][k]
        for m in range(LIVE):
            values[place, m] = found[3][m, k]


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

    The samples of an input are sorted by cell. Going up the rows, the sums of the
    ``LIVE`` rows at hand stay in registers, and every row is written once.

    Args:
        grad_y: ``(n_blocks, batch, BLOCK)``, zeros in columns that don't exist.
        start, stop: inputs.
    """
    batch = x.shape[0]
    n_basis, n_outputs = coefficients.shape[1:]
    n_rows = n_basis - LIVE + 1  # to start from
    kind = coefficients.dtype
    zero = splat(coefficients.dtype.type(0))
    found = _room(batch, kind)
    values = np.empty((INPUTS, batch, LIVE), kind)
    samples = np.empty((INPUTS, batch), np.int32)
    ends = np.empty((INPUTS, n_rows + 1), np.int64)
    at_apart, row_apart = np.empty((INPUTS, LIVE, 1), kind), np.empty(INPUTS, np.int64)
    everything = np.zeros((grad_y.shape[0], BLOCK), kind)  # gradients of all samples
    if apart.size and not anchored:
        for number in range(grad_y.shape[0]):
            for b in range(batch):
                for m in range(BLOCK):
                    everything[number, m] += grad_y[number, b, m]
    block = np.empty(BLOCK, kind)
    grads, weights = grad_y.reshape(-1), coefficients.reshape(-1)
    results, scales = gradient.reshape(-1), scale.reshape(-1)
    scale_results, sums = scale_gradient.reshape(-1), everything.reshape(-1)
    for first in range(start, stop, INPUTS):
        n_inputs = min(INPUTS, stop - first)
        for j in range(n_inputs):
            i = first + j
            if _is_apart(apart, i):
                row_apart[j] = _locate_apart(
                    i, apart, low, cells, size, degree, outside, at_apart[j]
                )
            n = _locate_all(
                x, i, apart, low, cells, size, degree, outside, False, 0, batch, found
            )
            _sort_by_row(n, found, ends[j], samples[j], values[j])
        for number in range(grad_y.shape[0]):
            o = number * BLOCK
            full = o + BLOCK <= n_outputs
            width = min(BLOCK, n_outputs - o)
            for j in range(n_inputs):
                i = first + j
                a0, a1, a2, a3 = zero, zero, zero, zero
                b0, b1, b2, b3 = zero, zero, zero, zero
                all_a, all_b = zero, zero  # gradients of all samples not set apart
                scale_a, scale_b = zero, zero
                k = 0
                for row in range(n_basis):
                    end = ends[j, min(row, n_rows - 1)]
                    while k < end:
                        at = (number * batch + np.int64(samples[j, k])) * BLOCK
                        grad_a, grad_b = load(grads, at), load(grads, at + LANES)
                        v = splat(values[j, k, 0])
                        a0, b0 = multiply_add(v, grad_a, a0), multiply_add(
                            v, grad_b, b0
                        )
                        v = splat(values[j, k, 1])
                        a1, b1 = multiply_add(v, grad_a, a1), multiply_add(
                            v, grad_b, b1
                        )
                        v = splat(values[j, k, 2])
                        a2, b2 = multiply_add(v, grad_a, a2), multiply_add(
                            v, grad_b, b2
                        )
                        v = splat(values[j, k, 3])
                        a3, b3 = multiply_add(v, grad_a, a3), multiply_add(
                            v, grad_b, b3
                        )
                        if apart.size:
                            all_a, all_b = add(all_a, grad_a), add(all_b, grad_b)
                        k += 1
                    at = (i * n_basis + row) * n_outputs + o
                    if full and scale.size:
                        scale_a = multiply_add(a0, load(weights, at), scale_a)
                        scale_b = multiply_add(b0, load(weights, at + LANES), scale_b)
                        s = i * n_outputs + o
                        store(results, at, multiply(a0, load(scales, s)))
                        s += LANES
                        store(results, at + LANES, multiply(b0, load(scales, s)))
                    elif full:
                        store(results, at, a0)
                        store(results, at + LANES, b0)
                    else:
                        store(block, 0, a0)
                        store(block, LANES, b0)
                        for m in range(width):
                            if scale.size:
                                results[at + m] = block[m] * scale[i, o + m]
                                scale_gradient[i, o + m] += block[m] * weights[at + m]
                            else:
                                results[at + m] = block[m]
                    a0, a1, a2, a3 = a1, a2, a3, zero
                    b0, b1, b2, b3 = b1, b2, b3, zero
                if _is_apart(apart, i) and full:
                    # Of those set apart, what they have; or of the others, what the
                    # anchor takes from them.
                    all_a = subtract(load(sums, o), all_a)
                    all_b = subtract(load(sums, o + LANES), all_b)
                    for q in range(LIVE):
                        at = (i * n_basis + row_apart[j] + q) * n_outputs + o
                        v = splat(at_apart[j, q, 0])
                        part_a, part_b = multiply(v, all_a), multiply(v, all_b)
                        if scale.size:
                            scale_a = multiply_add(part_a, load(weights, at), scale_a)
                            more = load(weights, at + LANES)
                            scale_b = multiply_add(part_b, more, scale_b)
                            s = i * n_outputs + o
                            part_a = multiply(part_a, load(scales, s))
                            part_b = multiply(part_b, load(scales, s + LANES))
                        store(results, at, add(part_a, load(results, at)))
                        at += LANES
                        store(results, at, add(part_b, load(results, at)))
                elif _is_apart(apart, i):
                    store(block, 0, all_a)
                    store(block, LANES, all_b)
                    for q in range(LIVE):
                        at = (i * n_basis + row_apart[j] + q) * n_outputs + o
                        for m in range(width):
                            grad = everything[number, m] - block[m]
                            part = at_apart[j, q, 0] * grad
                            if scale.size:
                                scale_gradient[i, o + m] += part * weights[at + m]
                                part *= scale[i, o + m]
                            results[at + m] += part
                if full and scale.size:
                    s = i * n_outputs + o
                    store(scale_results, s, scale_a)
                    store(scale_results, s + LANES, scale_b)


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
        grad_y: as for ``coefficient_gradient``.
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
    zero = splat(coefficients.dtype.type(0))
    for i in range(start, stop):
        _locate_all(
            x, i, nowhere, low, cells, size, degree, outside, True, 0, batch, found
        )
        for b in range(batch):
            v0, v1 = splat(values[0, b]), splat(values[1, b])
            v2, v3 = splat(values[2, b]), splat(values[3, b])
            w0 = (i * n_basis + rows[b]) * n_outputs
            w1, w2, w3 = w0 + n_outputs, w0 + 2 * n_outputs, w0 + 3 * n_outputs
            sums = zero
            for o in range(0, whole, LANES):
                slope = multiply(v0, load(weights, w0 + o))
                slope = multiply_add(v1, load(weights, w1 + o), slope)
                slope = multiply_add(v2, load(weights, w2 + o), slope)
                slope = multiply_add(v3, load(weights, w3 + o), slope)
                if scale.size:
                    slope = multiply(slope, load(scales, i * n_outputs + o))
                at = (o // BLOCK * batch + b) * BLOCK + o % BLOCK
                sums = multiply_add(slope, load(grads, at), sums)
            result = total(sums)
            for o in range(whole, n_outputs):
                part = (
                    values[0, b] * weights[w0 + o]
                    + values[1, b] * weights[w1 + o]
                    + values[2, b] * weights[w2 + o]
                    + values[3, b] * weights[w3 + o]
                )
                if scale.size:
                    part *= scale[i, o]
                result += part * grad_y[o // BLOCK, b, o % BLOCK]
            gradient[b, i] = result * cells[i]
