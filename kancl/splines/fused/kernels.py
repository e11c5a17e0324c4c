"""The kernels of the fused path, in Triton.

At a point at most ``degree + 1`` bases are not 0, those of neighbouring rows of the
coefficients ``(in_features, n_basis, out_features)``. Forward and the gradient by the
input gather these rows alone: their work does not depend on the grid size, and an
input's rows stay in the nearest cache while a block of samples passes over them. The
gradient by the coefficients has to write all rows; it is a matrix product of the bases,
made in registers, and the outputs' gradient. Nothing of size ``batch * n_basis`` is
ever in memory.

Every number is written by one program and summed in a fixed order, without atomics: the
same inputs give the same bits.

All kernels take the inputs and the grid alike: ``x (batch, in_features)``; ``low``,
``cells`` (grid cells per unit of x) and ``anchor``, ``(in_features,)`` float64 each.
What the flags ``ANCHORED`` and ``SCALED`` rule out is not read. ``KIND`` is the type of
all values and sums. Nothing is checked here.
"""

# Triton compiles these functions from their source: no annotations but its own.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import triton
import triton.language as tl


@triton.jit
def _piece(u, m: tl.constexpr, DEGREE: tl.constexpr):
    """The ``m``-th of the polynomials of a cell, at ``u`` in [0, 1] of it."""
    w = 1 - u
    if DEGREE == 3:
        sixth = tl.full([], 1 / 6, u.dtype)
        two_thirds = tl.full([], 2 / 3, u.dtype)
        if m == 0:
            return w * w * w * sixth
        elif m == 1:
            return two_thirds + u * u * (u * 0.5 - 1)
        elif m == 2:
            return two_thirds + w * w * (w * 0.5 - 1)
        else:
            return u * u * u * sixth
    elif DEGREE == 2:
        if m == 0:
            return w * w * 0.5
        elif m == 1:
            return u * w + 0.5
        else:
            return u * u * 0.5
    else:
        if m == 0:
            return w
        else:
            return u


@triton.jit
def _slope(u, m: tl.constexpr, DEGREE: tl.constexpr):
    """Its derivative, per cell."""
    w = 1 - u
    if DEGREE == 3:
        if m == 0:
            return w * w * -0.5
        elif m == 1:
            return u * (u * 1.5 - 2)
        elif m == 2:
            return w * (2 - w * 1.5)
        else:
            return u * u * 0.5
    elif DEGREE == 2:
        if m == 0:
            return -w
        elif m == 1:
            return w - u
        else:
            return u
    else:
        if m == 0:
            return u * 0 - 1
        else:
            return u * 0 + 1


@triton.jit
def _locate(
    x, low, cells, SIZE: tl.constexpr, DEGREE: tl.constexpr, OUTSIDE: tl.constexpr
):
    """First live basis, place in its cell, and cells beyond the grid; in float64.

    Exact in this sense: the position in cells is one rounding in float64, the cell is
    its floor, the rest is exact. NaN is passed on in the latter two.
    """
    position = (x.to(tl.float64) - low) * cells
    known = position == position
    place = tl.where(known, position, 0.0)
    if OUTSIDE == "zero":
        # Beyond the bases' reach there is none whatever the distance.
        place = tl.minimum(tl.maximum(place, -1.0 - DEGREE), 1.0 + SIZE + DEGREE)
        start = tl.floor(place)
        beyond = place * 0
    else:
        inside = tl.minimum(tl.maximum(place, 0.0), 1.0 * SIZE)
        start = tl.minimum(tl.floor(inside), SIZE - 1.0)
        beyond = place - inside
        place = inside
    u = tl.where(known, place - start, position)
    return start.to(tl.int32), u, beyond


@triton.jit
def _weight(
    u,
    beyond,
    m: tl.constexpr,
    SLOPE: tl.constexpr,
    DEGREE: tl.constexpr,
    OUTSIDE: tl.constexpr,
    KIND: tl.constexpr,
):
    """The ``m``-th live basis, or its derivative by the position."""
    local = u.to(KIND)
    if SLOPE:
        weight = _slope(local, m, DEGREE)
        if OUTSIDE == "clamp":
            weight = tl.where(beyond == 0, weight, 0.0)
    else:
        weight = _piece(local, m, DEGREE)
        if OUTSIDE == "linear":
            weight += beyond.to(KIND) * _slope(local, m, DEGREE)
    return weight


@triton.jit
def _live_sum(
    coefficients,
    i,
    first,
    u,
    beyond,
    outputs,
    n_out,
    SLOPE: tl.constexpr,
    SIZE: tl.constexpr,
    DEGREE: tl.constexpr,
    OUTSIDE: tl.constexpr,
    KIND: tl.constexpr,
):
    """Input ``i``'s splines at some samples: ``(n_samples, n_outputs)``."""
    N_BASIS: tl.constexpr = SIZE + DEGREE
    wanted = outputs < n_out
    rows = coefficients + (tl.zeros([], tl.int64) + i) * (N_BASIS * n_out)
    total = tl.zeros([first.shape[0], outputs.shape[0]], KIND)
    for m in tl.static_range(DEGREE + 1):
        basis = first + m
        there = (basis >= 0) & (basis < N_BASIS)
        row = tl.load(
            rows + ((basis * n_out)[:, None] + outputs[None, :]),
            mask=there[:, None] & wanted[None, :],
            other=0.0,
        )
        weight = _weight(u, beyond, m, SLOPE, DEGREE, OUTSIDE, KIND)
        total += weight[:, None] * row.to(KIND)
    return total


@triton.jit
def _all_bases(
    bases,
    first,
    u,
    beyond,
    DEGREE: tl.constexpr,
    OUTSIDE: tl.constexpr,
    KIND: tl.constexpr,
):
    """The bases asked for, at some samples: ``(n_bases, n_samples)``."""
    total = tl.zeros([bases.shape[0], first.shape[0]], KIND)
    for m in tl.static_range(DEGREE + 1):
        weight = _weight(u, beyond, m, False, DEGREE, OUTSIDE, KIND)
        here = bases[:, None] == (first + m)[None, :]
        total = tl.where(here, weight[None, :], total)
    return total


@triton.jit
def spline_sum(
    x,
    low,
    cells,
    anchor,
    coefficients,
    scale,
    sums,
    batch,
    n_in,
    n_out,
    inputs_per_part,
    SIZE: tl.constexpr,
    DEGREE: tl.constexpr,
    OUTSIDE: tl.constexpr,
    ANCHORED: tl.constexpr,
    SCALED: tl.constexpr,
    KIND: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_O: tl.constexpr,
):
    """Sums over a part of the inputs: ``sums (n_parts, batch, out_features)``."""
    samples = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    outputs = tl.program_id(1) * BLOCK_O + tl.arange(0, BLOCK_O)
    part = tl.program_id(2)
    found, wanted = samples < batch, outputs < n_out
    one = tl.zeros([1], tl.int32)
    total = tl.zeros([BLOCK_B, BLOCK_O], KIND)
    stop = tl.minimum((part + 1) * inputs_per_part, n_in)
    for i in range(part * inputs_per_part, stop):
        value = tl.load(x + samples.to(tl.int64) * n_in + i, mask=found, other=0.0)
        grid_low, grid_cells = tl.load(low + i), tl.load(cells + i)
        first, u, beyond = _locate(value, grid_low, grid_cells, SIZE, DEGREE, OUTSIDE)
        y = _live_sum(
            coefficients,
            i,
            first,
            u,
            beyond,
            outputs,
            n_out,
            False,
            SIZE,
            DEGREE,
            OUTSIDE,
            KIND,
        )
        if ANCHORED:
            at = tl.load(anchor + i + one)
            live, v, off = _locate(at, grid_low, grid_cells, SIZE, DEGREE, OUTSIDE)
            y -= _live_sum(
                coefficients,
                i,
                live,
                v,
                off,
                outputs,
                n_out,
                False,
                SIZE,
                DEGREE,
                OUTSIDE,
                KIND,
            )
            # Not left to the subtraction: the compiler may round the two differently.
            y = tl.where((value.to(tl.float64) == at)[:, None], 0.0, y)
        if SCALED:
            factor = tl.load(scale + i * n_out + outputs, mask=wanted, other=0.0)
            y *= factor.to(KIND)[None, :]
        total += y
    row = (samples.to(tl.int64) + part.to(tl.int64) * batch) * n_out
    tl.store(
        sums + row[:, None] + outputs[None, :],
        total,
        mask=found[:, None] & wanted[None, :],
    )


@triton.jit
def input_gradient(
    x,
    low,
    cells,
    coefficients,
    scale,
    grad,
    of_x,
    batch,
    n_in,
    n_out,
    SIZE: tl.constexpr,
    DEGREE: tl.constexpr,
    OUTSIDE: tl.constexpr,
    SCALED: tl.constexpr,
    KIND: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_O: tl.constexpr,
):
    """``of_x (batch, in_features)``, from ``grad (batch, out_features)``."""
    samples = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    i = tl.program_id(1)
    found = samples < batch
    place = samples.to(tl.int64) * n_in + i
    value = tl.load(x + place, mask=found, other=0.0)
    grid_cells = tl.load(cells + i)
    first, u, beyond = _locate(
        value, tl.load(low + i), grid_cells, SIZE, DEGREE, OUTSIDE
    )
    total = tl.zeros([BLOCK_B], KIND)
    for start in range(0, n_out, BLOCK_O):
        outputs = start + tl.arange(0, BLOCK_O)
        wanted = outputs < n_out
        slope = _live_sum(
            coefficients,
            i,
            first,
            u,
            beyond,
            outputs,
            n_out,
            True,
            SIZE,
            DEGREE,
            OUTSIDE,
            KIND,
        )
        if SCALED:
            factor = tl.load(scale + i * n_out + outputs, mask=wanted, other=0.0)
            slope *= factor.to(KIND)[None, :]
        grads = tl.load(
            grad + (samples.to(tl.int64) * n_out)[:, None] + outputs[None, :],
            mask=found[:, None] & wanted[None, :],
            other=0.0,
        )
        total += tl.sum(grads.to(KIND) * slope, 1)
    tl.store(of_x + place, (total * grid_cells).to(KIND), mask=found)


@triton.jit
def coefficient_gradient(
    x,
    low,
    cells,
    anchor,
    coefficients,
    scale,
    grad,
    of_coefficients,
    of_scale,
    batch,
    n_in,
    n_out,
    SIZE: tl.constexpr,
    DEGREE: tl.constexpr,
    OUTSIDE: tl.constexpr,
    ANCHORED: tl.constexpr,
    SCALED: tl.constexpr,
    KIND: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_O: tl.constexpr,
    BLOCK_G: tl.constexpr,
):
    """An input's gradients, for a block of its bases.

    ``of_coefficients`` like ``coefficients``; ``of_scale (n_blocks_of_bases,
    in_features, out_features)``, to be summed.
    """
    N_BASIS: tl.constexpr = SIZE + DEGREE
    i = tl.program_id(0)
    outputs = tl.program_id(1) * BLOCK_O + tl.arange(0, BLOCK_O)
    block = tl.program_id(2)
    bases = block * BLOCK_G + tl.arange(0, BLOCK_G)
    wanted = outputs < n_out
    grid_low, grid_cells = tl.load(low + i), tl.load(cells + i)
    if ANCHORED:
        at = tl.load(anchor + i + tl.zeros([1], tl.int32))
        live, v, off = _locate(at, grid_low, grid_cells, SIZE, DEGREE, OUTSIDE)
        at_anchor = _all_bases(bases, live, v, off, DEGREE, OUTSIDE, KIND)
    total = tl.zeros([BLOCK_G, BLOCK_O], KIND)
    for start in range(0, batch, BLOCK_B):
        samples = start + tl.arange(0, BLOCK_B)
        found = samples < batch
        value = tl.load(x + samples.to(tl.int64) * n_in + i, mask=found, other=0.0)
        first, u, beyond = _locate(value, grid_low, grid_cells, SIZE, DEGREE, OUTSIDE)
        weights = _all_bases(bases, first, u, beyond, DEGREE, OUTSIDE, KIND)
        if ANCHORED:
            weights -= at_anchor
            weights = tl.where((value.to(tl.float64) == at)[None, :], 0.0, weights)
        grads = tl.load(
            grad + (samples.to(tl.int64) * n_out)[:, None] + outputs[None, :],
            mask=found[:, None] & wanted[None, :],
            other=0.0,
        )
        # "ieee": no TF32, whose 10 bits are not float32.
        total = tl.dot(weights, grads.to(KIND), total, input_precision="ieee")
    row = (bases + i * N_BASIS).to(tl.int64) * n_out
    place = row[:, None] + outputs[None, :]
    mask = (bases < N_BASIS)[:, None] & wanted[None, :]
    if SCALED:
        rows = tl.load(coefficients + place, mask=mask, other=0.0).to(KIND)
        edges = of_scale + (block * n_in + i) * n_out + outputs
        tl.store(edges, tl.sum(total * rows, 0), mask=wanted)
        factor = tl.load(scale + i * n_out + outputs, mask=wanted, other=0.0)
        total *= factor.to(KIND)[None, :]
    tl.store(of_coefficients + place, total, mask=mask)


INTERPRETED = not isinstance(spline_sum, triton.JITFunction)
"""Whether Triton's interpreter runs these kernels, on a CPU (``TRITON_INTERPRET=1``)."""
