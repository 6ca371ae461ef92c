# mypy: ignore-errors
"""norm_fire in Triton: forward. What backward shares with it lies here, too.

Tensors are channels last: one time step is `n` values in memory, rows of C channels, one row per pixel. Sizes are arguments of
the running kernel, so that a new batch or image size compiles nothing; the steps of a chunk are unrolled, and what they read is
asked for before the first is computed, for no load may move across a store. Pointers may be None. Tuples:

neuron    as `load_neuron` makes it
tile      where it lies: its first value within a time step, n, its values' offsets from there, which of them are in bounds
"""

import triton
import triton.language as tl

from ...spec import Connect
from .neuron import charge, fires, load_neuron, reset

NONE = tl.constexpr(int(Connect.NONE))
ADD = tl.constexpr(int(Connect.ADD))
AND = tl.constexpr(int(Connect.AND))
IAND = tl.constexpr(int(Connect.IAND))


@triton.jit
def load_steps(x, step, tile, STEPS: tl.constexpr):
    """Tiles of STEPS time steps from `step` on, as they are stored; () of None."""
    begin, n, offsets, mask = tile
    tiles = ()
    if x is not None:
        for t in tl.static_range(STEPS):
            tiles += (tl.load(x + (step + t) * n + begin + offsets, mask=mask, other=0.0),)
    return tiles


@triton.jit
def load_membrane(v, neuron, tile):
    """The membrane before the first step: v, or at rest."""
    begin, _, offsets, mask = tile
    if v is not None:
        membrane = tl.load(v + begin + offsets, mask=mask, other=0.0)
    else:
        membrane = tl.zeros(offsets.shape, tl.float32) + neuron[4]
    return membrane


@triton.jit
def normalized_current(t, ys, currents, scale_shift, REPEAT: tl.constexpr):
    """The normalised value at step t of those read."""
    x = ys[0 if REPEAT else t].to(tl.float32) * scale_shift[0] + scale_shift[1]
    if len(currents) > 0:
        x = x + currents[t].to(tl.float32)
    return x


@triton.jit
def run_membranes(v, ys, currents, scale_shift, neuron, STEPS: tl.constexpr, REPEAT: tl.constexpr, HARD_RESET: tl.constexpr):
    """From membrane v: the membrane after STEPS steps, and h of each."""
    hs = ()
    for t in tl.static_range(STEPS):
        h = charge(v, normalized_current(t, ys, currents, scale_shift, REPEAT), neuron)
        v = reset(h, fires(h, neuron), neuron, HARD_RESET)
        hs += (h,)
    return v, hs


@triton.jit
def store_planes(packed, value, step, tile, PLANES: tl.constexpr):
    """Small integers [groups, 8] as bits: bit j of byte i of plane p is bit p of element 8i + j; 0 beyond the last element."""
    begin, n, offsets, mask = tile
    group = tl.arange(0, offsets.shape[0])
    value = tl.where(mask, value.to(tl.int32), 0)
    for first in tl.static_range(0, PLANES, 4):  # four planes are added up at once, as the bytes of a word
        word = tl.zeros(value.shape, tl.int32)
        for p in tl.static_range(4):
            word |= ((value >> (first + p)) & 1) << (8 * p)
        word = tl.sum(word << (offsets % 8), 1)
        for p in tl.static_range(4):
            if first + p < PLANES:
                to = packed + (step * PLANES + first + p) * ((n + 7) // 8) + begin // 8 + group
                tl.store(to, (word >> (8 * p)).to(tl.uint8), mask=group * 8 < n - begin)


@triton.jit
def forward_steps(
    membrane,
    step,
    y,
    still_frame,
    shortcut,
    current,
    out,
    packed,
    scale_shift,
    neuron,
    tile,
    STEPS: tl.constexpr,
    REPEAT: tl.constexpr,
    CONNECT: tl.constexpr,
    HARD_RESET: tl.constexpr,
    PLANES: tl.constexpr,
):
    """Outputs of STEPS steps from `step` on; the membrane after them. still_frame: the one frame under REPEAT"""
    begin, n, offsets, mask = tile
    ys = still_frame if REPEAT else load_steps(y, step, tile, STEPS)
    currents = load_steps(current, step, tile, STEPS)
    shortcuts = load_steps(shortcut, step, tile, STEPS)
    membrane, hs = run_membranes(membrane, ys, currents, scale_shift, neuron, STEPS, REPEAT, HARD_RESET)
    for t in tl.static_range(STEPS):
        value = fires(hs[t], neuron)
        if CONNECT != NONE:
            s = shortcuts[t].to(tl.float32)
            if CONNECT == ADD:
                value = value + s
            elif CONNECT == AND:
                value = value * s
            else:
                tl.static_assert(CONNECT == IAND)
                value = (1.0 - value) * s
        tl.store(out + (step + t) * n + begin + offsets, value.to(out.dtype.element_ty), mask=mask)
        if PLANES > 0:
            store_planes(packed, value, step + t, tile, PLANES)
    return membrane


@triton.jit
def flat_tile(n, UNIT: tl.constexpr, GROUPS: tl.constexpr):
    """The program's GROUPS x 8 values, wherever rows end. UNIT divides n: where it is 16, vectors may be moved."""
    n = n.to(tl.int64) // UNIT * UNIT
    begin = tl.program_id(0).to(tl.int64) * (GROUPS * 8)
    offsets = tl.arange(0, GROUPS)[:, None] * 8 + tl.arange(0, 8)[None, :]
    return begin, n, offsets, offsets < tl.minimum(n - begin, GROUPS * 8).to(tl.int32)


@triton.jit
def tile_channels(tile, channels, ALIGN: tl.constexpr):
    """The channel of each value. ALIGN divides the number of channels: where it is 16, their numbers move as vectors, too."""
    begin, _, offsets, _ = tile
    return ((begin % channels).to(tl.int32) // ALIGN * ALIGN + offsets) % channels


@triton.jit(do_not_specialize=["n", "chunks", "a", "b", "c", "v_th", "v_reset"])
def norm_fire_kernel(
    y,
    scale,
    shift,
    coefficients,
    shortcut,
    current,
    v,
    out,
    v_last,
    packed,
    n,
    channels,
    chunks,
    a,
    b,
    c,
    v_th,
    v_reset,
    STEPS_PER_CHUNK: tl.constexpr,
    STEPS: tl.constexpr,
    LONG: tl.constexpr,
    REPEAT: tl.constexpr,
    CONNECT: tl.constexpr,
    HARD_RESET: tl.constexpr,
    PLANES: tl.constexpr,
    ALIGN: tl.constexpr,
    UNIT: tl.constexpr,
    GROUPS: tl.constexpr,
):
    """`chunks` times STEPS_PER_CHUNK steps (LONG only), then STEPS."""
    tile = flat_tile(n, UNIT, GROUPS)
    channel = tile_channels(tile, channels, ALIGN)
    scale_shift = (tl.load(scale + channel), tl.load(shift + channel))
    neuron = load_neuron(coefficients, a, b, c, v_th, v_reset)
    membrane = load_membrane(v, neuron, tile)
    still_frame = load_steps(y, 0, tile, 1 if REPEAT else 0)
    step = 0
    if LONG:
        for chunk in range(chunks):
            membrane = forward_steps(
                membrane, chunk * STEPS_PER_CHUNK, y, still_frame, shortcut, current, out, packed, scale_shift, neuron, tile,
                STEPS_PER_CHUNK, REPEAT, CONNECT, HARD_RESET, PLANES,
            )  # fmt: skip
        step = chunks * STEPS_PER_CHUNK
    membrane = forward_steps(
        membrane,
        step,
        y,
        still_frame,
        shortcut,
        current,
        out,
        packed,
        scale_shift,
        neuron,
        tile,
        STEPS,
        REPEAT,
        CONNECT,
        HARD_RESET,
        PLANES,
    )
    if v_last is not None:
        begin, _, offsets, mask = tile
        tl.store(v_last + begin + offsets, membrane, mask=mask)
