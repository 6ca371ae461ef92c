# mypy: ignore-errors
"""norm_fire in Triton: forward. What backward shares with it lies here, too.

Tensors are channels last: one time step is `n` values in memory, rows of C channels, one row per pixel. Sizes are arguments of
the running kernel, so that a new batch or image size compiles nothing; the steps of a chunk are unrolled, and what they read is
asked for before the first is computed, for no load may move across a store. Pointers may be None. Tuples:

neuron    a, b, c, v_th, v_reset (0 under soft reset)
place     where a tile lies: its first value within a time step, n, its values' offsets from there, which of them are in bounds
"""

import triton
import triton.language as tl

from .neuron_kernels import charge, fires, reset

NONE = tl.constexpr(-1)  # connections, in the order of cpu.CONNECTS
ADD = tl.constexpr(0)
AND = tl.constexpr(1)


@triton.jit
def read(x, step, place, STEPS: tl.constexpr):
    """Tiles of STEPS time steps from `step` on, as they are stored; () of None."""
    begin, n, lanes, live = place
    tiles = ()
    if x is not None:
        for t in tl.static_range(STEPS):
            tiles += (tl.load(x + (step + t) * n + begin + lanes, mask=live, other=0.0),)
    return tiles


@triton.jit
def start(v, neuron, place):
    """The membrane before the first step: v, or at rest."""
    begin, _, lanes, live = place
    if v is not None:
        membrane = tl.load(v + begin + lanes, mask=live, other=0.0)
    else:
        membrane = tl.zeros(lanes.shape, tl.float32) + neuron[4]
    return membrane


@triton.jit
def current_at(t, ys, currents, affine, REPEAT: tl.constexpr):
    """The normalised value at step t of those read."""
    x = ys[0 if REPEAT else t].to(tl.float32) * affine[0] + affine[1]
    if len(currents) > 0:
        x = x + currents[t].to(tl.float32)
    return x


@triton.jit
def membranes(v, ys, currents, affine, neuron, STEPS: tl.constexpr, REPEAT: tl.constexpr, HARD: tl.constexpr):
    """From membrane v: the membrane after STEPS steps, and h of each."""
    hs = ()
    for t in tl.static_range(STEPS):
        h = charge(v, current_at(t, ys, currents, affine, REPEAT), neuron)
        v = reset(h, fires(h, neuron), neuron, HARD)
        hs += (h,)
    return v, hs


@triton.jit
def store_planes(packed, value, step, place, PLANES: tl.constexpr):
    """Small integers [groups, 8] as bits: bit j of byte i of plane p is bit p of element 8i + j; 0 beyond the last element."""
    begin, n, lanes, live = place
    group = tl.arange(0, lanes.shape[0])
    value = tl.where(live, value.to(tl.int32), 0)
    for first in tl.static_range(0, PLANES, 4):  # four planes are added up at once, as the bytes of a word
        word = tl.zeros(value.shape, tl.int32)
        for p in tl.static_range(4):
            word |= ((value >> (first + p)) & 1) << (8 * p)
        word = tl.sum(word << (lanes % 8), 1)
        for p in tl.static_range(4):
            if first + p < PLANES:
                to = packed + (step * PLANES + first + p) * ((n + 7) // 8) + begin // 8 + group
                tl.store(to, (word >> (8 * p)).to(tl.uint8), mask=group * 8 < n - begin)


@triton.jit
def forward_steps(
    membrane,
    step,
    y,
    still,
    shortcut,
    current,
    out,
    packed,
    affine,
    neuron,
    place,
    STEPS: tl.constexpr,
    REPEAT: tl.constexpr,
    CONNECT: tl.constexpr,
    HARD: tl.constexpr,
    PLANES: tl.constexpr,
):
    """Outputs of STEPS steps from `step` on; the membrane after them. still: the one frame under REPEAT"""
    begin, n, lanes, live = place
    ys = still if REPEAT else read(y, step, place, STEPS)
    currents = read(current, step, place, STEPS)
    shortcuts = read(shortcut, step, place, STEPS)
    membrane, hs = membranes(membrane, ys, currents, affine, neuron, STEPS, REPEAT, HARD)
    for t in tl.static_range(STEPS):
        value = fires(hs[t], neuron)
        if CONNECT != NONE:
            s = shortcuts[t].to(tl.float32)
            if CONNECT == ADD:
                value = value + s
            elif CONNECT == AND:
                value = value * s
            else:
                value = (1.0 - value) * s
        tl.store(out + (step + t) * n + begin + lanes, value.to(out.dtype.element_ty), mask=live)
        if PLANES > 0:
            store_planes(packed, value, step + t, place, PLANES)
    return membrane


@triton.jit
def flat_place(n, UNIT: tl.constexpr, GROUPS: tl.constexpr):
    """The program's GROUPS x 8 values, wherever rows end. UNIT divides n: where it is 16, vectors may be moved."""
    n = n.to(tl.int64) // UNIT * UNIT
    begin = tl.program_id(0).to(tl.int64) * (GROUPS * 8)
    lanes = tl.arange(0, GROUPS)[:, None] * 8 + tl.arange(0, 8)[None, :]
    return begin, n, lanes, lanes < tl.minimum(n - begin, GROUPS * 8).to(tl.int32)


@triton.jit
def channels_of(place, channels, ALIGN: tl.constexpr):
    """The channel of each value. ALIGN divides the number of channels: where it is 16, their numbers move as vectors, too."""
    begin, _, lanes, _ = place
    return ((begin % channels).to(tl.int32) // ALIGN * ALIGN + lanes) % channels


@triton.jit(do_not_specialize=["n", "chunks", "v_th", "v_reset"])
def norm_fire_kernel(
    y,
    scale,
    shift,
    abc,
    shortcut,
    current,
    v,
    out,
    v_end,
    packed,
    n,
    channels,
    chunks,
    v_th,
    v_reset,
    CHUNK: tl.constexpr,
    STEPS: tl.constexpr,
    LONG: tl.constexpr,
    REPEAT: tl.constexpr,
    CONNECT: tl.constexpr,
    HARD: tl.constexpr,
    PLANES: tl.constexpr,
    ALIGN: tl.constexpr,
    UNIT: tl.constexpr,
    GROUPS: tl.constexpr,
):
    """`chunks` times CHUNK steps (LONG only), then STEPS."""
    place = flat_place(n, UNIT, GROUPS)
    channel = channels_of(place, channels, ALIGN)
    affine = (tl.load(scale + channel), tl.load(shift + channel))
    neuron = (tl.load(abc), tl.load(abc + 1), tl.load(abc + 2), v_th, v_reset)
    membrane = start(v, neuron, place)
    still = read(y, 0, place, 1 if REPEAT else 0)
    step = 0
    if LONG:
        for chunk in range(chunks):
            membrane = forward_steps(
                membrane, chunk * CHUNK, y, still, shortcut, current, out, packed, affine, neuron, place,
                CHUNK, REPEAT, CONNECT, HARD, PLANES,
            )  # fmt: skip
        step = chunks * CHUNK
    membrane = forward_steps(
        membrane, step, y, still, shortcut, current, out, packed, affine, neuron, place, STEPS, REPEAT, CONNECT, HARD, PLANES
    )
    if v_end is not None:
        begin, _, lanes, live = place
        tl.store(v_end + begin + lanes, membrane, mask=live)
