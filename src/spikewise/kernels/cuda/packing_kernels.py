# mypy: ignore-errors
"""Small integers as bit planes, and back, in Triton."""

import triton
import triton.language as tl

from .forward_kernels import flat_place, store_planes


@triton.jit(do_not_specialize=["n"])
def pack_kernel(x, packed, n, PLANES: tl.constexpr, UNIT: tl.constexpr, GROUPS: tl.constexpr):
    """Time step program_id(1) of x [steps, n] -> packed [steps, PLANES, bytes]."""
    place = flat_place(n, UNIT, GROUPS)
    begin, n, lanes, live = place
    step = tl.program_id(1)
    store_planes(packed, tl.load(x + step * n + begin + lanes, mask=live, other=0.0), step, place, PLANES)


@triton.jit(do_not_specialize=["n"])
def unpack_kernel(packed, x, n, PLANES: tl.constexpr, UNIT: tl.constexpr, GROUPS: tl.constexpr):
    """The reverse."""
    begin, n, lanes, live = flat_place(n, UNIT, GROUPS)
    step = tl.program_id(1)
    group = tl.arange(0, GROUPS)[:, None]
    value = tl.zeros([GROUPS, 8], tl.int32)
    for p in tl.static_range(PLANES):
        plane = packed + (step * PLANES + p) * ((n + 7) // 8) + begin // 8
        byte = tl.load(plane + group, mask=group * 8 < n - begin, other=0).to(tl.int32)
        value |= ((byte >> (lanes % 8)) & 1) << p
    tl.store(x + step * n + begin + lanes, value.to(tl.float32).to(x.dtype.element_ty), mask=live)
