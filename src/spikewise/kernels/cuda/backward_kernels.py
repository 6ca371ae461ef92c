# mypy: ignore-errors
"""norm_fire in Triton: backward (E5). Membranes are computed again by forward's own functions, so they are the same bits.

A program takes `tiles` tiles of ROWS x COLUMNS, one after another, and sums over rows; columns are channels. With more
steps than a chunk has, the membranes at the chunks' starts are kept in memory, and y is read a second time.
"""

import triton
import triton.language as tl

from .forward_kernels import ADD, AND, current_at, membranes, read, start
from .neuron_kernels import fires, reset, slope
from .pooling_kernels import windows_sum


@triton.jit
def advance(
    membrane,
    chunks,
    starts,
    y,
    still,
    current,
    affine,
    neuron,
    place,
    CHUNK: tl.constexpr,
    REPEAT: tl.constexpr,
    HARD: tl.constexpr,
):
    """The membrane after `chunks` chunks; those at their starts go to memory, [chunks, n]."""
    begin, n, lanes, live = place
    for chunk in range(chunks):
        tl.store(starts + chunk * n + begin + lanes, membrane, mask=live)
        ys = still if REPEAT else read(y, chunk * CHUNK, place, CHUNK)
        currents = read(current, chunk * CHUNK, place, CHUNK)
        membrane, _ = membranes(membrane, ys, currents, affine, neuron, CHUNK, REPEAT, HARD)
    tl.debug_barrier()  # what a thread wrote, another one may read
    return membrane


@triton.jit
def pooled_place(place, pixel, channel, pixels, height, width, out_height, out_width, channels):
    """What `through_pooling` must know of a tile whose rows are these pixels."""
    of_image = out_height * out_width * channels
    steps_apart = pixels // (height * width) * of_image
    image = pixel // (height * width) * of_image
    column, row = (pixel % width).to(tl.int32), (pixel // width % height).to(tl.int32)
    return (place, steps_apart, image, column, row, channel, out_height, out_width, channels)


@triton.jit
def through_pooling(grad_out, step, pooled, live, WINDOW: tl.constexpr, STEPS: tl.constexpr):
    """As `read`: the gradient at the spikes, of which max pooling has the gradient `grad_out` at its outputs.

    pooled: place, and how many values it has per step; of the tile's values the offset of their image's outputs, column, row
            and channel; the outputs' height and width, channels
    """
    place, n, image, column, row, channel, height, width, channels = pooled
    tiles = ()
    for t in tl.static_range(STEPS):
        at = (step + t) * n + image
        of_step = windows_sum(grad_out + at, place + at, column, row, channel, live, height, width, channels, WINDOW)
        tiles += (of_step,)
    return tiles


@triton.jit
def backward_steps(
    g_v,
    sums,
    before,
    step,
    y,
    still,
    shortcut,
    current,
    grad_out,
    pooled,
    grad_y,
    grad_shortcut,
    grad_current,
    affine,
    neuron,
    place,
    alpha,
    STEPS: tl.constexpr,
    REPEAT: tl.constexpr,
    CONNECT: tl.constexpr,
    HARD: tl.constexpr,
    DETACH: tl.constexpr,
    SURROGATE: tl.constexpr,
    SCALED: tl.constexpr,
    WANT_ABC: tl.constexpr,
    WINDOW: tl.constexpr,
):
    """E5 over STEPS steps, the last first. before: the membrane when `step` begins; g_v: the gradient of the one at their end.

    sums: of g_x; of g_x (y - centre); of g_h v[t-1], g_h x and g_h, the gradients of a, b and c
    """
    begin, n, lanes, live = place
    scale, _, centre = affine
    sum_x, sum_xy, sum_a, sum_b, sum_c = sums
    ys = still if REPEAT else read(y, step, place, STEPS)
    currents = read(current, step, place, STEPS)
    grads = (
        read(grad_out, step, place, STEPS) if WINDOW is None else through_pooling(grad_out, step, pooled, live, WINDOW, STEPS)
    )
    shortcuts = read(shortcut, step, place, STEPS)
    _, hs = membranes(before, ys, currents, affine, neuron, STEPS, REPEAT, HARD)
    for t in tl.static_range(STEPS - 1, -1, -1):
        at = (step + t) * n + begin + lanes
        h = hs[t]
        s = fires(h, neuron)
        f = slope(h - neuron[3], alpha, SURROGATE)
        g_s = grads[t].to(tl.float32)
        if CONNECT > ADD:
            carried = shortcuts[t].to(tl.float32)
            if grad_shortcut is not None:
                passed = g_s * (s if CONNECT == AND else 1.0 - s)
                tl.store(grad_shortcut + at, passed.to(grad_shortcut.dtype.element_ty), mask=live)
            g_s = g_s * carried if CONNECT == AND else -(g_s * carried)
        dv_dh = 1.0 - s if HARD else 1.0
        if not DETACH:
            dv_dh = dv_dh + f * (neuron[4] - h if HARD else -neuron[3])
        g_h = g_s * f + g_v * dv_dh
        g_x = neuron[1] * g_h
        g_v = neuron[0] * g_h
        sum_x += g_x
        if not REPEAT:
            sum_xy += g_x * (ys[t].to(tl.float32) - centre)
            tl.store(grad_y + at, (scale * g_x if SCALED else g_x).to(grad_y.dtype.element_ty), mask=live)
        if grad_current is not None:
            tl.store(grad_current + at, g_x.to(grad_current.dtype.element_ty), mask=live)
        if WANT_ABC:
            sum_a += g_h * (reset(hs[t - 1], fires(hs[t - 1], neuron), neuron, HARD) if t > 0 else before)
            sum_b += g_h * current_at(t, ys, currents, affine, REPEAT)
            sum_c += g_h
    return g_v, (sum_x, sum_xy, sum_a, sum_b, sum_c)


@triton.jit(
    do_not_specialize=["n", "height", "width", "out_height", "out_width", "chunks", "tiles", "v_th", "v_reset", "alpha"]
)
def norm_fire_backward_kernel(
    y,
    scale,
    shift,
    abc,
    shortcut,
    current,
    v,
    grad_out,
    grad_v_end,
    centre,
    grad_y,
    grad_shortcut,
    grad_current,
    grad_v,
    starts,
    partial,
    partial_abc,
    pool_place,
    n,
    channels,
    height,
    width,
    out_height,
    out_width,
    blocks,
    chunks,
    tiles,
    v_th,
    v_reset,
    alpha,
    CHUNK: tl.constexpr,
    STEPS: tl.constexpr,
    LONG: tl.constexpr,
    REPEAT: tl.constexpr,
    CONNECT: tl.constexpr,
    HARD: tl.constexpr,
    DETACH: tl.constexpr,
    SURROGATE: tl.constexpr,
    SCALED: tl.constexpr,
    WANT_ABC: tl.constexpr,
    WINDOW: tl.constexpr,
    UNIT: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Gradients of `tiles` tiles and their sums over rows: partial [programs / blocks, 2, channels], partial_abc [programs, 3].

    blocks: of COLUMNS channels; starts: float32 [chunks, n], where LONG
    pool_place: with max pooling behind the spikes, which place of its WINDOW each output came from
    """
    program = tl.program_id(0)
    column = program % blocks * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    row = tl.arange(0, ROWS)[:, None]
    inside = column < channels
    n = n.to(tl.int64) // UNIT * UNIT
    rows = n // channels
    affine = (
        tl.load(scale + column, mask=inside, other=0.0),
        tl.load(shift + column, mask=inside, other=0.0),
        tl.load(centre + column, mask=inside, other=0.0),
    )
    neuron = (tl.load(abc), tl.load(abc + 1), tl.load(abc + 2), v_th, v_reset)
    none = tl.zeros([ROWS, COLUMNS], tl.float32)
    sum_g, sum_gy = none, none
    sum_a, sum_b, sum_c = tl.zeros([], tl.float64), tl.zeros([], tl.float64), tl.zeros([], tl.float64)
    first = (program // blocks).to(tl.int64) * tiles * ROWS
    for tile in range(tiles):
        first_row = first + tile * ROWS
        live = (row < tl.minimum(rows - first_row, ROWS).to(tl.int32)) & inside
        place = (first_row * channels, n, row * channels + column, live)
        pooled = ()
        if WINDOW is not None:
            pooled = pooled_place(pool_place, first_row + row, column, rows, height, width, out_height, out_width, channels)
        at = first_row * channels + row * channels + column
        membrane = start(v, neuron, place)
        g_v = none if grad_v_end is None else tl.load(grad_v_end + at, mask=live, other=0.0)
        still = read(y, 0, place, 1 if REPEAT else 0)
        if LONG:
            membrane = advance(membrane, chunks, starts, y, still, current, affine, neuron, place, CHUNK, REPEAT, HARD)
        g_v, sums = backward_steps(
            g_v, (none, none, none, none, none), membrane, chunks * CHUNK, y, still, shortcut, current, grad_out, pooled,
            grad_y, grad_shortcut, grad_current, affine, neuron, place, alpha,
            STEPS, REPEAT, CONNECT, HARD, DETACH, SURROGATE, SCALED, WANT_ABC, WINDOW,
        )  # fmt: skip
        if LONG:
            for done in range(chunks):
                chunk = chunks - 1 - done
                before = tl.load(starts + chunk * n + at, mask=live, other=0.0)
                g_v, sums = backward_steps(
                    g_v, sums, before, chunk * CHUNK, y, still, shortcut, current, grad_out, pooled,
                    grad_y, grad_shortcut, grad_current, affine, neuron, place, alpha,
                    CHUNK, REPEAT, CONNECT, HARD, DETACH, SURROGATE, SCALED, WANT_ABC, WINDOW,
                )  # fmt: skip
        of_tile, of_tile_y = sums[0], sums[1]
        if REPEAT:
            of_tile_y = of_tile * (still[0].to(tl.float32) - affine[2])
            to_y = affine[0] * of_tile if SCALED else of_tile
            tl.store(grad_y + at, to_y.to(grad_y.dtype.element_ty), mask=live)
        sum_g += of_tile
        sum_gy += of_tile_y
        if grad_v is not None:
            tl.store(grad_v + at, g_v, mask=live)
        if WANT_ABC:
            sum_a += tl.sum(sums[2].to(tl.float64))
            sum_b += tl.sum(sums[3].to(tl.float64))
            sum_c += tl.sum(sums[4].to(tl.float64))
    to = partial + program // blocks * (2 * channels) + column
    tl.store(to, tl.sum(sum_g, 0)[None, :], mask=inside)
    tl.store(to + channels, tl.sum(sum_gy, 0)[None, :], mask=inside)
    if WANT_ABC:
        tl.store(partial_abc + program * 3, sum_a.to(tl.float32))
        tl.store(partial_abc + program * 3 + 1, sum_b.to(tl.float32))
        tl.store(partial_abc + program * 3 + 2, sum_c.to(tl.float32))
