# mypy: ignore-errors
"""norm_fire in Triton: backward (E5). Membranes are computed again by forward's own functions, so they are the same bits.

A program takes `tiles` tiles of ROWS x COLUMNS, one after another, and sums over rows; columns are channels. With more
steps than a chunk has, the membranes at the chunks' starts are kept in memory, and y is read a second time.
"""

import triton
import triton.language as tl

from .max_pool import unpool_grad
from .neuron import fires, load_neuron, reset, slope
from .norm_fire import ADD, AND, load_membrane, load_steps, normalized_current, run_membranes


@triton.jit
def store_chunk_membranes(
    membrane,
    chunks,
    chunk_membranes,
    y,
    still_frame,
    current,
    scale_shift,
    neuron,
    tile,
    STEPS_PER_CHUNK: tl.constexpr,
    REPEAT: tl.constexpr,
    HARD_RESET: tl.constexpr,
):
    """The membrane after `chunks` chunks; those at their starts go to memory, [chunks, n]."""
    begin, n, offsets, mask = tile
    for chunk in range(chunks):
        tl.store(chunk_membranes + chunk * n + begin + offsets, membrane, mask=mask)
        ys = still_frame if REPEAT else load_steps(y, chunk * STEPS_PER_CHUNK, tile, STEPS_PER_CHUNK)
        currents = load_steps(current, chunk * STEPS_PER_CHUNK, tile, STEPS_PER_CHUNK)
        membrane, _ = run_membranes(membrane, ys, currents, scale_shift, neuron, STEPS_PER_CHUNK, REPEAT, HARD_RESET)
    tl.debug_barrier()  # what a thread wrote, another one may read
    return membrane


@triton.jit
def pool_tile(pool_indices, pixel, channel, pixels, height, width, out_height, out_width, channels):
    """What `unpool_grads` must know of a tile whose rows are these pixels, of so many that a time step has."""
    of_image = out_height * out_width * channels
    steps_apart = pixels // (height * width) * of_image
    image = pixel // (height * width) * of_image
    column, row = (pixel % width).to(tl.int32), (pixel // width % height).to(tl.int32)
    return (pool_indices, steps_apart, image, column, row, channel, out_height, out_width, channels)


@triton.jit
def unpool_grads(grad_out, step, pooled, mask, WINDOW: tl.constexpr, STEPS: tl.constexpr):
    """As `load_steps`: the gradient at the spikes, of which max pooling has the gradient `grad_out` at its outputs.

    pooled: pool indices, and how many there are per step; of the tile's values the offset of their image's outputs, column,
            row and channel; the outputs' height and width, channels
    """
    pool_indices, n, image, column, row, channel, height, width, channels = pooled
    tiles = ()
    for t in tl.static_range(STEPS):
        at = (step + t) * n + image
        of_step = unpool_grad(grad_out + at, pool_indices + at, column, row, channel, mask, height, width, channels, WINDOW)
        tiles += (of_step,)
    return tiles


@triton.jit
def backward_steps(
    g_v,
    sums,
    before,
    step,
    y,
    still_frame,
    shortcut,
    current,
    grad_out,
    pooled,
    grad_y,
    grad_shortcut,
    grad_current,
    scale_shift,
    neuron,
    tile,
    alpha,
    STEPS: tl.constexpr,
    REPEAT: tl.constexpr,
    CONNECT: tl.constexpr,
    HARD_RESET: tl.constexpr,
    DETACH: tl.constexpr,
    SURROGATE: tl.constexpr,
    WANT_COEFFICIENTS: tl.constexpr,
    WINDOW: tl.constexpr,
):
    """E5 over STEPS steps, the last first. before: the membrane when `step` begins; g_v: the gradient of the one at their end.

    sums: of g_x; of g_x (y - mean); of g_h v[t-1], g_h x and g_h, the gradients of a, b and c
    """
    begin, n, offsets, mask = tile
    scale, _, mean = scale_shift
    sum_x, sum_xy, sum_a, sum_b, sum_c = sums
    ys = still_frame if REPEAT else load_steps(y, step, tile, STEPS)
    currents = load_steps(current, step, tile, STEPS)
    grads = (
        load_steps(grad_out, step, tile, STEPS) if WINDOW is None else unpool_grads(grad_out, step, pooled, mask, WINDOW, STEPS)
    )
    shortcuts = load_steps(shortcut, step, tile, STEPS)
    _, hs = run_membranes(before, ys, currents, scale_shift, neuron, STEPS, REPEAT, HARD_RESET)
    for t in tl.static_range(STEPS - 1, -1, -1):
        at = (step + t) * n + begin + offsets
        h = hs[t]
        s = fires(h, neuron)
        f = slope(h - neuron[3], alpha, SURROGATE)
        g_s = grads[t].to(tl.float32)
        if CONNECT > ADD:
            shortcut_value = shortcuts[t].to(tl.float32)
            if grad_shortcut is not None:
                shortcut_grad = g_s * (s if CONNECT == AND else 1.0 - s)
                tl.store(grad_shortcut + at, shortcut_grad.to(grad_shortcut.dtype.element_ty), mask=mask)
            g_s = g_s * shortcut_value if CONNECT == AND else -(g_s * shortcut_value)
        dv_dh = 1.0 - s if HARD_RESET else 1.0
        if not DETACH:
            dv_dh = dv_dh + f * (neuron[4] - h if HARD_RESET else -neuron[3])
        g_h = g_s * f + g_v * dv_dh
        g_x = neuron[1] * g_h
        g_v = neuron[0] * g_h
        sum_x += g_x
        if not REPEAT:
            sum_xy += g_x * (ys[t].to(tl.float32) - mean)
            tl.store(grad_y + at, (scale * g_x).to(grad_y.dtype.element_ty), mask=mask)
        if grad_current is not None:
            tl.store(grad_current + at, g_x.to(grad_current.dtype.element_ty), mask=mask)
        if WANT_COEFFICIENTS:
            sum_a += g_h * (reset(hs[t - 1], fires(hs[t - 1], neuron), neuron, HARD_RESET) if t > 0 else before)
            sum_b += g_h * normalized_current(t, ys, currents, scale_shift, REPEAT)
            sum_c += g_h
    return g_v, (sum_x, sum_xy, sum_a, sum_b, sum_c)


@triton.jit(
    do_not_specialize=[
        "n", "height", "width", "out_height", "out_width", "chunks", "tiles", "a", "b", "c", "v_th", "v_reset", "alpha",
    ]
)  # fmt: skip
def norm_fire_backward_kernel(
    y,
    scale,
    shift,
    coefficients,
    shortcut,
    current,
    v,
    grad_out,
    grad_v_last,
    mean,
    grad_y,
    grad_shortcut,
    grad_current,
    grad_v,
    chunk_membranes,
    partial,
    partial_coefficients,
    pool_indices,
    n,
    channels,
    height,
    width,
    out_height,
    out_width,
    blocks,
    chunks,
    tiles,
    a,
    b,
    c,
    v_th,
    v_reset,
    alpha,
    STEPS_PER_CHUNK: tl.constexpr,
    STEPS: tl.constexpr,
    LONG: tl.constexpr,
    REPEAT: tl.constexpr,
    CONNECT: tl.constexpr,
    HARD_RESET: tl.constexpr,
    DETACH: tl.constexpr,
    SURROGATE: tl.constexpr,
    WANT_COEFFICIENTS: tl.constexpr,
    WINDOW: tl.constexpr,
    UNIT: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Gradients of `tiles` tiles and their sums over rows: partial [programs / blocks, 2, channels],
    partial_coefficients [programs, 3].

    blocks: of COLUMNS channels; chunk_membranes: float32 [chunks, n], where LONG
    pool_indices: with max pooling behind the spikes, which place of its WINDOW each output came from
    """
    program = tl.program_id(0)
    column = program % blocks * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    row = tl.arange(0, ROWS)[:, None]
    inside = column < channels
    n = n.to(tl.int64) // UNIT * UNIT
    rows = n // channels
    scale_shift = (
        tl.load(scale + column, mask=inside, other=0.0),
        tl.load(shift + column, mask=inside, other=0.0),
        tl.load(mean + column, mask=inside, other=0.0),
    )
    neuron = load_neuron(coefficients, a, b, c, v_th, v_reset)
    none = tl.zeros([ROWS, COLUMNS], tl.float32)
    sum_g, sum_gy, sum_a, sum_b, sum_c = none, none, none, none, none
    first = (program // blocks).to(tl.int64) * tiles * ROWS
    for number in range(tiles):
        first_row = first + number * ROWS
        mask = (row < tl.minimum(rows - first_row, ROWS).to(tl.int32)) & inside
        tile = (first_row * channels, n, row * channels + column, mask)
        pooled = ()
        if WINDOW is not None:
            pooled = pool_tile(pool_indices, first_row + row, column, rows, height, width, out_height, out_width, channels)
        at = first_row * channels + row * channels + column
        membrane = load_membrane(v, neuron, tile)
        g_v = none if grad_v_last is None else tl.load(grad_v_last + at, mask=mask, other=0.0)
        still_frame = load_steps(y, 0, tile, 1 if REPEAT else 0)
        if LONG:
            membrane = store_chunk_membranes(
                membrane,
                chunks,
                chunk_membranes,
                y,
                still_frame,
                current,
                scale_shift,
                neuron,
                tile,
                STEPS_PER_CHUNK,
                REPEAT,
                HARD_RESET,
            )
        g_v, sums = backward_steps(
            g_v, (none if REPEAT else sum_g, none if REPEAT else sum_gy, sum_a, sum_b, sum_c), membrane,
            chunks * STEPS_PER_CHUNK, y, still_frame, shortcut, current, grad_out, pooled,
            grad_y, grad_shortcut, grad_current, scale_shift, neuron, tile, alpha,
            STEPS, REPEAT, CONNECT, HARD_RESET, DETACH, SURROGATE, WANT_COEFFICIENTS, WINDOW,
        )  # fmt: skip
        if LONG:
            for done in range(chunks):
                chunk = chunks - 1 - done
                before = tl.load(chunk_membranes + chunk * n + at, mask=mask, other=0.0)
                g_v, sums = backward_steps(
                    g_v, sums, before, chunk * STEPS_PER_CHUNK, y, still_frame, shortcut, current, grad_out, pooled,
                    grad_y, grad_shortcut, grad_current, scale_shift, neuron, tile, alpha,
                    STEPS_PER_CHUNK, REPEAT, CONNECT, HARD_RESET, DETACH, SURROGATE, WANT_COEFFICIENTS, WINDOW,
                )  # fmt: skip
        of_x, of_xy, sum_a, sum_b, sum_c = sums
        if REPEAT:  # of this tile: what its one frame is given
            tl.store(grad_y + at, (scale_shift[0] * of_x).to(grad_y.dtype.element_ty), mask=mask)
            sum_g += of_x
            sum_gy += of_x * (still_frame[0].to(tl.float32) - scale_shift[2])
        else:
            sum_g, sum_gy = of_x, of_xy
        if grad_v is not None:
            tl.store(grad_v + at, g_v, mask=mask)
    to = partial + program // blocks * (2 * channels) + column
    tl.store(to, tl.sum(sum_g, 0)[None, :], mask=inside)
    tl.store(to + channels, tl.sum(sum_gy, 0)[None, :], mask=inside)
    if WANT_COEFFICIENTS:
        tl.store(partial_coefficients + program * 3, tl.sum(sum_a.to(tl.float64)).to(tl.float32))
        tl.store(partial_coefficients + program * 3 + 1, tl.sum(sum_b.to(tl.float64)).to(tl.float32))
        tl.store(partial_coefficients + program * 3 + 2, tl.sum(sum_c.to(tl.float64)).to(tl.float32))
