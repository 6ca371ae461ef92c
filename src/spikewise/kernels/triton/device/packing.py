# mypy: ignore-errors
"""Small integers as bit planes, and back, in Triton."""

import triton
import triton.language as tl

from .norm_fire import flat_tile, store_planes


@triton.jit(do_not_specialize=["n"])
def pack_kernel(x, packed, n, PLANES: tl.constexpr, UNIT: tl.constexpr, GROUPS: tl.constexpr):
    """Time step program_id(1) of x [steps, n] -> packed [steps, PLANES, bytes]."""
    tile = flat_tile(n, UNIT, GROUPS)
    begin, n, offsets, mask = tile
    step = tl.program_id(1)
    store_planes(packed, tl.load(x + step * n + begin + offsets, mask=mask, other=0.0), step, tile, PLANES)


@triton.jit(do_not_specialize=["n"])
def unpack_kernel(packed, x, n, PLANES: tl.constexpr, UNIT: tl.constexpr, GROUPS: tl.constexpr):
    """The reverse."""
    begin, n, offsets, mask = flat_tile(n, UNIT, GROUPS)
    step = tl.program_id(1)
    group = tl.arange(0, GROUPS)[:, None]
    value = tl.zeros([GROUPS, 8], tl.int32)
    for p in tl.static_range(PLANES):
        plane = packed + (step * PLANES + p) * ((n + 7) // 8) + begin // 8
        byte = tl.load(plane + group, mask=group * 8 < n - begin, other=0).to(tl.int32)
        value |= ((byte >> (offsets % 8)) & 1) << p
    tl.store(x + step * n + begin + offsets, value.to(tl.float32).to(x.dtype.element_ty), mask=mask)
