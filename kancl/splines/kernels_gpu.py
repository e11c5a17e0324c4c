"""The GPU's kernels, in Triton.

At a point at most ``degree + 1`` bases are not 0, those of neighbouring rows of the
coefficients ``(in_features, n_basis, out_features)``. Forward and the gradient by the
input gather these rows alone, so that their work does not depend on the grid size, and
an input's rows stay in the nearest cache while a block of samples passes over them. The
gradient by the coefficients has to write all rows; it is a matrix product of the bases,
made in registers, and the outputs' gradient. Every number is written by one program and
summed in a fixed order, without atomics: the same inputs give the same bits.

All kernels take ``x (batch, in_features)``; ``low``, ``cells`` (grid cells per unit of
x) and ``anchor``, ``(in_features,)`` float64 each; ``GRID``: its size, degree, policy
outside, and the type of all values and sums. Those that sum take ``coefficients``,
``scale (in_features, out_features)`` and, of the branch with SiLU beside the splines,
``base_weight (out_features, in_features)``. What the flags ``ANCHORED``, ``SCALED`` and
``BASED`` rule out is neither read nor written.
"""

# Triton compiles these functions from their source: no annotations but its own.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import triton
import triton.language as tl

# Where these numbers are divisible by 16, or 1, nothing gets faster: one kernel for all
# batches, also an epoch's last. Those of a layer's inputs and outputs stay as they are.
VARYING = ["batch", "inputs_per_part"]


@triton.jit
def _piece(u, m: tl.constexpr, DEGREE: tl.constexpr):
    """The ``m``-th of the polynomials of a cell, at ``u`` in [0, 1] of it."""
    w = 1 - u
    v = w if m == 0 or (m == 2 and DEGREE == 3) else u  # half of them are mirrored
    if DEGREE == 1:
        return v
    elif DEGREE == 2:
        if m == 1:
            return u * w + 0.5
        else:
            return v * v * 0.5
    elif m == 0 or m == 3:
        return v * v * v * tl.full([], 1 / 6, u.dtype)
    else:
        return tl.full([], 2 / 3, u.dtype) + v * v * (v * 0.5 - 1)


@triton.jit
def _slope(u, m: tl.constexpr, DEGREE: tl.constexpr):
    """Its derivative, per cell."""
    w = 1 - u
    v = w if m == 0 or (m == 2 and DEGREE == 3) else u
    if DEGREE == 1:
        slope = v * 0 + 1
    elif DEGREE == 2:
        slope = w - u if m == 1 else v
    else:
        slope = v * v * 0.5 if m == 0 or m == 3 else v * (v * 1.5 - 2)
    return -slope if m == 0 or (m == 2 and DEGREE == 3) else slope


@triton.jit
def _locate(x, low, cells, GRID: tl.constexpr):
    """First live basis, place in its cell, and cells beyond the grid; in float64.

    The position in cells is rounded once; the rest is exact. NaN is passed on.
    """
    SIZE: tl.constexpr = GRID[0]
    DEGREE: tl.constexpr = GRID[1]
    position = (x.to(tl.float64) - low) * cells
    known = position == position
    place = tl.where(known, position, 0.0)
    if GRID[2] == "zero":
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
def _weight(u, beyond, m: tl.constexpr, SLOPE: tl.constexpr, GRID: tl.constexpr):
    """The ``m``-th live basis, or its derivative by the position."""
    local = u.to(GRID[3])
    if SLOPE:
        weight = _slope(local, m, GRID[1])
        if GRID[2] == "clamp":
            weight = tl.where(beyond == 0, weight, 0.0)
    else:
        weight = _piece(local, m, GRID[1])
        if GRID[2] == "linear":
            weight += beyond.to(GRID[3]) * _slope(local, m, GRID[1])
    return weight


@triton.jit
def _silu(x, SLOPE: tl.constexpr):
    """``x / (1 + exp(-x))``, or its derivative."""
    share = 1 / (1 + tl.exp(-x))
    return share * (1 + x * (1 - share)) if SLOPE else x * share


@triton.jit
def _live_sum(
    coefficients, i, place, outputs, n_out, SLOPE: tl.constexpr, GRID: tl.constexpr
):
    """Input ``i``'s splines at some samples' places: ``(n_samples, n_outputs)``."""
    N_BASIS: tl.constexpr = GRID[0] + GRID[1]
    first, u, beyond = place
    in_range = outputs < n_out
    rows = coefficients + (tl.zeros([], tl.int64) + i) * (N_BASIS * n_out)
    total = tl.zeros([first.shape[0], outputs.shape[0]], GRID[3])
    for m in tl.static_range(GRID[1] + 1):
        basis = first + m
        exists = (basis >= 0) & (basis < N_BASIS)
        row = tl.load(
            rows + ((basis * n_out)[:, None] + outputs[None, :]),
            mask=exists[:, None] & in_range[None, :],
            other=0.0,
        )
        weight = _weight(u, beyond, m, SLOPE, GRID)
        total += weight[:, None] * row.to(GRID[3])
    return total


@triton.jit
def _bases_at(bases, place, GRID: tl.constexpr):
    """The bases asked for, at some samples' places: ``(n_bases, n_samples)``."""
    first, u, beyond = place
    total = tl.zeros([bases.shape[0], first.shape[0]], GRID[3])
    for m in tl.static_range(GRID[1] + 1):
        weight = _weight(u, beyond, m, False, GRID)
        here = bases[:, None] == (first + m)[None, :]
        total = tl.where(here, weight[None, :], total)
    return total


@triton.jit
def _bases(bases, value, known, GRID: tl.constexpr, ANCHORED: tl.constexpr):
    """``_bases_at`` an input's values, less those at its anchor, where exactly 0."""
    at, at_anchor, low, cells = known
    weights = _bases_at(bases, _locate(value, low, cells, GRID), GRID)
    if ANCHORED:
        weights -= at_anchor
        weights = tl.where((value.to(tl.float64) == at)[None, :], 0.0, weights)
    return weights  # (n_bases, n_samples)


# fmt: off
@triton.jit(do_not_specialize=VARYING)
def spline_sum(
    x, low, cells, anchor, coefficients, scale, base_weight, sums,
    batch, n_in, n_out, inputs_per_part,
    GRID: tl.constexpr, ANCHORED: tl.constexpr, SCALED: tl.constexpr,
    BASED: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: on
    """Sums over a part of the inputs: ``sums (n_parts, batch, out_features)``."""
    samples = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    outputs = tl.program_id(1) * BLOCK_O + tl.arange(0, BLOCK_O)
    part = tl.program_id(2)
    in_batch, in_range = samples < batch, outputs < n_out
    one = tl.zeros([1], tl.int32)
    total = tl.zeros([BLOCK_B, BLOCK_O], GRID[3])
    stop = tl.minimum((part + 1) * inputs_per_part, n_in)
    for i in range(part * inputs_per_part, stop):
        value = tl.load(x + samples.to(tl.int64) * n_in + i, mask=in_batch, other=0.0)
        grid_low, grid_cells = tl.load(low + i), tl.load(cells + i)
        place = _locate(value, grid_low, grid_cells, GRID)
        y = _live_sum(coefficients, i, place, outputs, n_out, False, GRID)
        if ANCHORED:
            at = tl.load(anchor + i + one)
            place = _locate(at, grid_low, grid_cells, GRID)
            y -= _live_sum(coefficients, i, place, outputs, n_out, False, GRID)
            # Not left to the subtraction: the compiler may round the two differently.
            y = tl.where((value.to(tl.float64) == at)[:, None], 0.0, y)
        if SCALED:
            factor = tl.load(scale + i * n_out + outputs, mask=in_range, other=0.0)
            y *= factor.to(GRID[3])[None, :]
        if BASED:
            at_weights = base_weight + outputs * n_in + i
            weights = tl.load(at_weights, mask=in_range, other=0.0).to(GRID[3])
            y += _silu(value.to(GRID[3]), False)[:, None] * weights[None, :]
        total += y  # (BLOCK_B, BLOCK_O)
    row = (samples.to(tl.int64) + part.to(tl.int64) * batch) * n_out
    tl.store(
        sums + row[:, None] + outputs[None, :],
        total,
        mask=in_batch[:, None] & in_range[None, :],
    )


# fmt: off
@triton.jit(do_not_specialize=VARYING[:1])
def input_gradient(
    x, low, cells, anchor, coefficients, scale, base_weight, grad, grad_x,
    batch, n_in, n_out,
    GRID: tl.constexpr, ANCHORED: tl.constexpr, SCALED: tl.constexpr,
    BASED: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: on
    """``grad_x (batch, in_features)``, from ``grad (batch, out_features)``."""
    samples = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    i = tl.program_id(1)
    in_batch = samples < batch
    at = samples.to(tl.int64) * n_in + i
    value = tl.load(x + at, mask=in_batch, other=0.0)
    grid_cells = tl.load(cells + i)
    place = _locate(value, tl.load(low + i), grid_cells, GRID)
    total = tl.zeros([BLOCK_B], GRID[3])
    of_base = tl.zeros([BLOCK_B], GRID[3])
    for start in range(0, n_out, BLOCK_O):
        outputs = start + tl.arange(0, BLOCK_O)
        in_range = outputs < n_out
        slope = _live_sum(coefficients, i, place, outputs, n_out, True, GRID)
        if SCALED:
            factor = tl.load(scale + i * n_out + outputs, mask=in_range, other=0.0)
            slope *= factor.to(GRID[3])[None, :]
        grads = tl.load(
            grad + (samples.to(tl.int64) * n_out)[:, None] + outputs[None, :],
            mask=in_batch[:, None] & in_range[None, :],
            other=0.0,
        ).to(GRID[3])
        total += tl.sum(grads * slope, 1)  # (BLOCK_B,)
        if BASED:
            at_weights = base_weight + outputs * n_in + i
            weights = tl.load(at_weights, mask=in_range, other=0.0).to(GRID[3])
            of_base += tl.sum(grads * weights[None, :], 1)
    total = (total * grid_cells).to(GRID[3])  # per unit of x
    if BASED:
        total += of_base * _silu(value.to(GRID[3]), True)
    tl.store(grad_x + at, total, mask=in_batch)


# fmt: off
@triton.jit(do_not_specialize=VARYING[:1])
def coefficient_gradient(
    x, low, cells, anchor, coefficients, scale, base_weight, grad,
    grad_coefficients, grad_scale, grad_base_weight, batch, n_in, n_out,
    GRID: tl.constexpr, ANCHORED: tl.constexpr, SCALED: tl.constexpr,
    BASED: tl.constexpr,
    BLOCK_B: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_G: tl.constexpr,
):  # fmt: on
    """An input's gradients, for a block of its bases.

    ``grad_coefficients`` and ``grad_base_weight`` like these; ``grad_scale
    (n_blocks_of_bases, in_features, out_features)``, to be summed. SiLU goes as one more
    basis, the last.
    """
    N_BASIS: tl.constexpr = GRID[0] + GRID[1]
    i = tl.program_id(0)
    outputs = tl.program_id(1) * BLOCK_O + tl.arange(0, BLOCK_O)
    block = tl.program_id(2)
    bases = block * BLOCK_G + tl.arange(0, BLOCK_G)
    in_range = outputs < n_out
    grid_low, grid_cells = tl.load(low + i), tl.load(cells + i)
    at = tl.load(anchor + i + tl.zeros([1], tl.int32))  # (1,)
    at_anchor = _bases_at(bases, _locate(at, grid_low, grid_cells, GRID), GRID)
    total = tl.zeros([BLOCK_G, BLOCK_O], GRID[3])
    for start in range(0, batch, BLOCK_B):
        samples = start + tl.arange(0, BLOCK_B)
        in_batch = samples < batch
        value = tl.load(x + samples.to(tl.int64) * n_in + i, mask=in_batch, other=0.0)
        known = at, at_anchor, grid_low, grid_cells
        weights = _bases(bases, value, known, GRID, ANCHORED)
        if BASED:
            activation = _silu(value.to(GRID[3]), False)
            is_base = (bases == N_BASIS)[:, None]
            weights = tl.where(is_base, activation[None, :], weights)
        grads = tl.load(
            grad + (samples.to(tl.int64) * n_out)[:, None] + outputs[None, :],
            mask=in_batch[:, None] & in_range[None, :],
            other=0.0,
        )
        # "ieee": no TF32, whose 10 bits are not float32. The type said: Triton 3.6 takes
        # float32 else, for doubles too.
        total = tl.dot(
            weights, grads.to(GRID[3]), total, input_precision="ieee", out_dtype=GRID[3]
        )  # (BLOCK_G, BLOCK_O)
    if BASED:
        of_base = tl.sum(tl.where((bases == N_BASIS)[:, None], total, 0.0), 0)
        has_base = in_range & (block == N_BASIS // BLOCK_G)
        tl.store(grad_base_weight + outputs * n_in + i, of_base, mask=has_base)
    row = (bases + i * N_BASIS).to(tl.int64) * n_out
    at_row = row[:, None] + outputs[None, :]
    mask = (bases < N_BASIS)[:, None] & in_range[None, :]
    if SCALED:
        rows = tl.load(coefficients + at_row, mask=mask, other=0.0).to(GRID[3])
        edges = grad_scale + (block * n_in + i) * n_out + outputs
        tl.store(edges, tl.sum(tl.where(mask, total * rows, 0.0), 0), mask=in_range)
        factor = tl.load(scale + i * n_out + outputs, mask=in_range, other=0.0)
        total *= factor.to(GRID[3])[None, :]
    tl.store(grad_coefficients + at_row, total, mask=mask)


# fmt: off
@triton.jit(do_not_specialize=VARYING[:1])
def idle_bases(
    x, low, cells, anchor, idle, batch, n_in,
    GRID: tl.constexpr, ANCHORED: tl.constexpr,
    BLOCK_B: tl.constexpr, BLOCK_G: tl.constexpr,
):  # fmt: on
    """``idle (in_features, n_basis)``: whether a basis is 0 at all samples."""
    N_BASIS: tl.constexpr = GRID[0] + GRID[1]
    i = tl.program_id(0)
    bases = tl.program_id(1) * BLOCK_G + tl.arange(0, BLOCK_G)
    grid_low, grid_cells = tl.load(low + i), tl.load(cells + i)
    at = tl.load(anchor + i + tl.zeros([1], tl.int32))  # (1,)
    at_anchor = _bases_at(bases, _locate(at, grid_low, grid_cells, GRID), GRID)
    alive = tl.zeros([BLOCK_G], tl.int32)
    for start in range(0, batch, BLOCK_B):
        samples = start + tl.arange(0, BLOCK_B)
        in_batch = samples < batch
        value = tl.load(x + samples.to(tl.int64) * n_in + i, mask=in_batch, other=0.0)
        known = at, at_anchor, grid_low, grid_cells
        weights = _bases(bases, value, known, GRID, ANCHORED)
        now = (weights != 0) & in_batch[None, :]  # (BLOCK_G, BLOCK_B)
        alive = tl.maximum(alive, tl.max(now.to(tl.int32), 1))
    tl.store(idle + i * N_BASIS + bases, alive == 0, mask=bases < N_BASIS)


INTERPRETED = not isinstance(spline_sum, triton.JITFunction)
"""Whether Triton's interpreter runs these kernels, on a CPU (``TRITON_INTERPRET=1``)."""
