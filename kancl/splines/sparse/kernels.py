"""The loops of the sparse path, compiled by Numba: only rows of live bases are touched.

At a point at most ``degree + 1 <= LIVE`` bases are not 0, those of neighbouring rows of
the coefficients ``(in_features, n_basis, out_features)``: one contiguous block, whatever
the grid size. An input at a time, so that its rows stay in the fastest cache.

All kernels take the inputs and the grid alike: ``x (batch, in_features)``, ``low`` and
``cells`` (grid cells per unit of x, both ``(in_features,)`` float64), and ``anchor
(in_features,)`` or empty. ``scale (in_features, out_features)`` may be empty as well.
``start`` and ``stop`` are the part of the work to do. Nothing is checked here.
"""

from typing import Any

import numpy as np
from numba import njit

from kancl.splines.sparse.simd import (
    add,
    load,
    multiply,
    multiply_add,
    splat,
    store,
    total,
)

LIVE = 4  # rows that are read for a value; the highest degree is one less
INPUTS = 4  # that share one pass over the gradient of the outputs
ZERO, CLAMP, LINEAR = 0, 1, 2  # policies outside the grid

OPTIONS: dict[str, Any] = dict(
    nogil=True,
    error_model="numpy",
    fastmath={"contract"},
    cache=True,
    boundscheck=False,
)


@njit(**OPTIONS)
def _pieces(u, degree, values, k, shift):  # type: ignore[no-untyped-def]
    """The ``degree + 1`` polynomials of a cell at ``u`` in [0, 1] of it."""
    one = values.dtype.type(1)
    half = values.dtype.type(0.5)
    w = one - u
    if degree == 3:
        sixth = values.dtype.type(1 / 6)
        values[k, shift] = w * w * w * sixth
        values[k, shift + 1] = values.dtype.type(2 / 3) + u * u * (u * half - one)
        values[k, shift + 2] = values.dtype.type(2 / 3) + w * w * (w * half - one)
        values[k, shift + 3] = u * u * u * sixth
    elif degree == 2:
        values[k, shift] = w * w * half
        values[k, shift + 1] = half + u * w
        values[k, shift + 2] = u * u * half
    else:
        values[k, shift] = w
        values[k, shift + 1] = u


@njit(**OPTIONS)
def _slopes(u, degree, values, k, shift):  # type: ignore[no-untyped-def]
    """Their derivatives, per cell."""
    one = values.dtype.type(1)
    half = values.dtype.type(0.5)
    two = values.dtype.type(2)
    w = one - u
    if degree == 3:
        values[k, shift] = -w * w * half
        values[k, shift + 1] = u * (u * (one + half) - two)
        values[k, shift + 2] = w * (two - w * (one + half))
        values[k, shift + 3] = u * u * half
    elif degree == 2:
        values[k, shift] = -w
        values[k, shift + 1] = w - u
        values[k, shift + 2] = u
    else:
        values[k, shift] = -one
        values[k, shift + 1] = one


@njit(**OPTIONS)
def _locate(  # type: ignore[no-untyped-def]
    position, size, degree, outside, slope, values, k
):
    """Fill ``values[k]``, of the ``LIVE`` rows from the returned one on.

    Args:
        position: in cells from the grid's low end.
        slope: derivatives by the position in place of values.
    """
    last = size + degree - LIVE  # the last row to start from
    kind = values.dtype.type
    inside = position
    if outside != ZERO:
        inside = min(max(position, 0.0), float(size))
    if inside >= 0 and (inside < size or (outside != ZERO and inside <= size)):
        cell = min(int(inside), size - 1)
        row = min(cell, last)
        if degree < LIVE - 1:
            values[k] = 0
        if slope:
            _slopes(kind(inside - cell), degree, values, k, cell - row)
        else:
            _pieces(kind(inside - cell), degree, values, k, cell - row)
        if outside == ZERO or inside == position:
            return row
        if outside == CLAMP:
            if slope:
                values[k] = 0
        elif not slope:  # straight on from the end
            beyond = kind(position - inside)
            ends = np.zeros((1, LIVE), values.dtype)
            _slopes(kind(inside - cell), degree, ends, 0, cell - row)
            for j in range(LIVE):
                values[k, j] += beyond * ends[0, j]
        return row
    values[k] = 0
    if position > -degree and position < size + degree:
        # The bases that reach beyond the grid: of the cell's, those which exist.
        cell = int(np.floor(position))
        row = min(max(cell, 0), last)
        all_of_cell = np.zeros((1, LIVE), values.dtype)
        if slope:
            _slopes(kind(position - cell), degree, all_of_cell, 0, 0)
        else:
            _pieces(kind(position - cell), degree, all_of_cell, 0, 0)
        for j in range(degree + 1):
            if 0 <= cell + j - row < LIVE and 0 <= cell + j < size + degree:
                values[k, cell + j - row] = all_of_cell[0, j]
        return row
    if position != position:
        values[k] = np.nan
    return 0


@njit(**OPTIONS)
def spline_sum(  # type: ignore[no-untyped-def]
    x, low, cells, anchor, size, degree, outside, coefficients, scale, y, start, stop
):
    """Add ``sum_i scale_io sum_g c_igo B_g(x_bi)`` to ``y``, samples start to stop."""
    n_inputs, n_basis, n_outputs = coefficients.shape
    whole = n_outputs - n_outputs % 8
    rows = np.empty(stop - start, np.int64)
    values = np.empty((stop - start, LIVE), coefficients.dtype)
    samples = np.empty(stop - start, np.int64)
    at_anchor = np.empty((1, LIVE), coefficients.dtype)
    anchored = np.zeros(n_outputs, coefficients.dtype)  # the spline's value there
    weights = coefficients.reshape(-1)
    outputs = y.reshape(-1)
    scales = scale.reshape(-1)
    for i in range(n_inputs):
        n = 0
        if anchor.size:
            position = (anchor[i] - low[i]) * cells[i]
            row = _locate(position, size, degree, outside, False, at_anchor, 0)
            for o in range(n_outputs):
                value = at_anchor[0, 0] * coefficients[i, row, o]
                for j in range(1, LIVE):
                    value += at_anchor[0, j] * coefficients[i, row + j, o]
                anchored[o] = value * scale[i, o] if scale.size else value
        for b in range(start, stop):
            if anchor.size and x[b, i] == anchor[i]:
                continue
            position = (np.float64(x[b, i]) - low[i]) * cells[i]
            row = _locate(position, size, degree, outside, False, values, n)
            rows[n] = (i * n_basis + row) * n_outputs
            samples[n] = b * n_outputs
            n += 1
        for k in range(n):
            v0, v1 = splat(values[k, 0]), splat(values[k, 1])
            v2, v3 = splat(values[k, 2]), splat(values[k, 3])
            w0 = rows[k]
            w1, w2, w3 = w0 + n_outputs, w0 + 2 * n_outputs, w0 + 3 * n_outputs
            out = samples[k]
            for o in range(0, whole, 8):
                if scale.size:
                    value = multiply(v0, load(weights, w0 + o))
                    value = multiply_add(v1, load(weights, w1 + o), value)
                    value = multiply_add(v2, load(weights, w2 + o), value)
                    value = multiply_add(v3, load(weights, w3 + o), value)
                    s = load(scales, i * n_outputs + o)
                    value = multiply_add(s, value, load(outputs, out + o))
                else:
                    value = load(outputs, out + o)
                    value = multiply_add(v0, load(weights, w0 + o), value)
                    value = multiply_add(v1, load(weights, w1 + o), value)
                    value = multiply_add(v2, load(weights, w2 + o), value)
                    value = multiply_add(v3, load(weights, w3 + o), value)
                store(outputs, out + o, value)
            for o in range(whole, n_outputs):
                part = (
                    values[k, 0] * weights[w0 + o]
                    + values[k, 1] * weights[w1 + o]
                    + values[k, 2] * weights[w2 + o]
                    + values[k, 3] * weights[w3 + o]
                )
                outputs[out + o] += part * scale[i, o] if scale.size else part
            if anchor.size:
                for o in range(n_outputs):
                    outputs[out + o] -= anchored[o]


@njit(**OPTIONS)
def coefficient_gradient(  # type: ignore[no-untyped-def]
    x,
    low,
    cells,
    anchor,
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
        grad_y: ``(batch, columns)``, zeros in columns ``out_features`` and more, whose
            number is a multiple of 16.
        start, stop: inputs.
    """
    batch = x.shape[0]
    n_basis, n_outputs = coefficients.shape[1:]
    columns = grad_y.shape[1]
    n_rows = n_basis - LIVE + 1  # to start from
    zero = splat(coefficients.dtype.type(0))
    kind = coefficients.dtype
    unsorted, unsorted_rows = np.empty((batch, LIVE), kind), np.empty(batch, np.int64)
    unsorted_samples = np.empty(batch, np.int64)
    values = np.empty((INPUTS, batch, LIVE), kind)
    samples = np.empty((INPUTS, batch), np.int64)
    ends = np.empty((INPUTS, n_rows + 1), np.int64)
    at_anchor, anchor_row = np.empty((INPUTS, LIVE), kind), np.empty(INPUTS, np.int64)
    block = np.empty(16, kind)
    grads = grad_y.reshape(-1)
    weights = coefficients.reshape(-1)
    results = gradient.reshape(-1)
    scales = scale.reshape(-1)
    for first in range(start, stop, INPUTS):
        n_inputs = min(INPUTS, stop - first)
        for j in range(n_inputs):
            i = first + j
            if anchor.size:
                position = (anchor[i] - low[i]) * cells[i]
                anchor_row[j] = _locate(
                    position, size, degree, outside, False, at_anchor, j
                )
            n = 0
            ends[j] = 0
            for b in range(batch):
                if anchor.size and x[b, i] == anchor[i]:
                    continue
                position = (np.float64(x[b, i]) - low[i]) * cells[i]
                row = _locate(position, size, degree, outside, False, unsorted, n)
                unsorted_rows[n] = row
                unsorted_samples[n] = b * columns
                ends[j, row + 1] += 1
                n += 1
            for row in range(1, n_rows):
                ends[j, row + 1] += ends[j, row]
            for k in range(n):
                row = unsorted_rows[k]
                place = ends[j, row]
                ends[j, row] = place + 1
                samples[j, place] = unsorted_samples[k]
                for m in range(LIVE):
                    values[j, place, m] = unsorted[k, m]
        for o in range(0, columns, 16):
            full = o + 16 <= n_outputs
            for j in range(n_inputs):
                i = first + j
                a0, a1, a2, a3 = zero, zero, zero, zero
                b0, b1, b2, b3 = zero, zero, zero, zero
                all_a, all_b = zero, zero  # gradients of all samples off the anchor
                scale_a, scale_b = zero, zero
                k = 0
                for row in range(n_basis):
                    end = ends[j, min(row, n_rows - 1)]
                    while k < end:
                        at = samples[j, k] + o
                        grad_a, grad_b = load(grads, at), load(grads, at + 8)
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
                        if anchor.size:
                            all_a, all_b = add(all_a, grad_a), add(all_b, grad_b)
                        k += 1
                    at = (i * n_basis + row) * n_outputs + o
                    if full and scale.size:
                        scale_a = multiply_add(a0, load(weights, at), scale_a)
                        scale_b = multiply_add(b0, load(weights, at + 8), scale_b)
                        s = i * n_outputs + o
                        store(results, at, multiply(a0, load(scales, s)))
                        store(results, at + 8, multiply(b0, load(scales, s + 8)))
                    elif full:
                        store(results, at, a0)
                        store(results, at + 8, b0)
                    else:
                        store(block, 0, a0)
                        store(block, 8, b0)
                        for m in range(n_outputs - o):
                            if scale.size:
                                results[at + m] = block[m] * scale[i, o + m]
                                scale_gradient[i, o + m] += block[m] * weights[at + m]
                            else:
                                results[at + m] = block[m]
                    a0, a1, a2, a3 = a1, a2, a3, zero
                    b0, b1, b2, b3 = b1, b2, b3, zero
                width = min(16, n_outputs - o)
                if full and scale.size:
                    store(block, 0, scale_a)
                    store(block, 8, scale_b)
                    for m in range(width):
                        scale_gradient[i, o + m] = block[m]
                if anchor.size and k:
                    store(block, 0, all_a)
                    store(block, 8, all_b)
                    for q in range(LIVE):
                        at = (i * n_basis + anchor_row[j] + q) * n_outputs + o
                        for m in range(width):
                            part = at_anchor[j, q] * block[m]
                            if scale.size:
                                scale_gradient[i, o + m] -= part * weights[at + m]
                                part *= scale[i, o + m]
                            results[at + m] -= part


@njit(**OPTIONS)
def input_gradient(  # type: ignore[no-untyped-def]
    x,
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
    columns = grad_y.shape[1]
    whole = n_outputs - n_outputs % 8
    values = np.empty((batch, LIVE), coefficients.dtype)
    rows = np.empty(batch, np.int64)
    grads = grad_y.reshape(-1)
    weights = coefficients.reshape(-1)
    scales = scale.reshape(-1)
    zero = splat(coefficients.dtype.type(0))
    for i in range(start, stop):
        for b in range(batch):
            position = (np.float64(x[b, i]) - low[i]) * cells[i]
            rows[b] = _locate(position, size, degree, outside, True, values, b)
        for b in range(batch):
            v0, v1 = splat(values[b, 0]), splat(values[b, 1])
            v2, v3 = splat(values[b, 2]), splat(values[b, 3])
            w0 = (i * n_basis + rows[b]) * n_outputs
            w1, w2, w3 = w0 + n_outputs, w0 + 2 * n_outputs, w0 + 3 * n_outputs
            sums = zero
            for o in range(0, whole, 8):
                slope = multiply(v0, load(weights, w0 + o))
                slope = multiply_add(v1, load(weights, w1 + o), slope)
                slope = multiply_add(v2, load(weights, w2 + o), slope)
                slope = multiply_add(v3, load(weights, w3 + o), slope)
                if scale.size:
                    slope = multiply(slope, load(scales, i * n_outputs + o))
                sums = multiply_add(slope, load(grads, b * columns + o), sums)
            result = total(sums)
            for o in range(whole, n_outputs):
                part = (
                    values[b, 0] * weights[w0 + o]
                    + values[b, 1] * weights[w1 + o]
                    + values[b, 2] * weights[w2 + o]
                    + values[b, 3] * weights[w3 + o]
                )
                if scale.size:
                    part *= scale[i, o]
                result += part * grad_y[b, o]
            gradient[b, i] = result * cells[i]
