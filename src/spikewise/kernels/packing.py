"""Spikes and small integers as bit planes: what backward keeps of them, an eighth of a byte per spike.

Plane p holds bit p of every value, in the order of memory (channels last or first), eight to a byte, the first in the lowest
bit; every time step begins with a byte of its own.

A layer hands on ordinary tensors. Its kernel notes on the output what it knows of the values: the largest, and their planes.
Whoever makes other values, or changes these in place, has a tensor that nothing is known of, and that is kept whole.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .layout import empty, memory_order, planes_shape
from .ops import impl, ops

MAX_PACKED_VALUE = 255
NO_VERSION = -1
CHANGED_WHILE_COMPILED = (
    "spikes were changed in place inside a compiled network to what no spikes are; "
    "change a copy, or set net.packing = False before compiling"
)


class Known(NamedTuple):
    """What is known of values.

    max_value:  the largest that the architecture allows
    planes:     uint8 [T, planes, bytes]; None where they are not made
    version:    of the values, as autograd counts changes in place
    """

    max_value: int
    planes: Tensor | None
    version: int


def note(values: Tensor, max_value: int, planes: Tensor | None = None) -> Tensor:
    """`values`, with what is known of them noted on the tensor."""
    if not max_value:
        return values
    if torch.compiler.is_compiling():  # tracing sees no changes in place: for compiled readers alone, see `planes_to_keep`
        values = values.view_as(values)  # results of autograd functions take no attributes
        values._spikewise_known = (max_value, None, NO_VERSION)  # type: ignore[attr-defined]
    elif not values.is_inference():
        values._spikewise_known = (max_value, planes, values._version)  # type: ignore[attr-defined]  # plain, to be pickled
    return values


def known(values: Tensor) -> Known | None:
    """What is known of values as they are now: None where they were changed since (which `.data` hides)."""
    noted = getattr(values, "_spikewise_known", None)
    if noted is None:
        return None
    if torch.compiler.is_compiling():
        return Known(noted[0], None, NO_VERSION)
    return Known(*noted) if noted[2] == values._version else None


def planes_to_keep(values: Tensor) -> Tensor | None:
    """Bit planes that backward may keep in place of values; None: there are none.

    Compiled, they are made of the values where these are read, so that they cannot be stale; values that were changed in place
    to what no planes hold are refused when the network runs.
    """
    found = known(values)
    if found is None or not torch.compiler.is_compiling():
        return None if found is None else found.planes
    planes = num_planes(found.max_value)
    if not planes:
        return None
    fits = ((values >= 0) & (values <= found.max_value) & (values == values.round())).all()
    torch._assert_async(fits, CHANGED_WHILE_COMPILED)
    return pack(values, planes)


def flatten_time(x: Tensor) -> Tensor:
    """[T, N, C, H, W] as images [T*N, C, H, W], of which the same is known."""
    images, found = x.flatten(0, 1), known(x)
    return images if found is None else note(images, found.max_value, found.planes)


def unflatten_time(images: Tensor, steps: int) -> Tensor:
    """Images [T*N, C, H, W] as [T, N, C, H, W], with the bound that is known of them."""
    x, found = images.unflatten(0, (steps, images.shape[0] // steps)), known(images)
    return x if found is None else note(x, found.max_value)


def num_planes(max_value: int) -> int:
    """Planes that hold 0 to `max_value`; 0 where it is unknown (0) or too large: such values stay whole."""
    return max_value.bit_length() if 0 < max_value <= MAX_PACKED_VALUE else 0


def note_planes(values: Tensor, max_value: int) -> Tensor:
    """`values` [T, N, C, H, W] of 0 to `max_value`, with their planes."""
    planes = num_planes(max_value)
    return note(values, max_value, pack(values, planes) if planes and not torch.compiler.is_compiling() else None)


def pack(x: Tensor, planes: int) -> Tensor:
    """Bit planes of values 0 to 2^planes - 1; of others, the lowest bits of their integer part: to be kept away.

    Shapes:  x [T, N, C, H, W] -> uint8 [T, planes, ceil(N*C*H*W / 8)]; x [N, C, H, W] is one time step
    """
    return ops.pack(x.detach(), planes)


def unpack(planes: Tensor, shape: Sequence[int], dtype: torch.dtype, *, channels_last: bool) -> Tensor:
    """The values again, exactly, in this dtype and layout.

    Shapes:  uint8 [T, planes, bytes] -> `shape`, [T, N, C, H, W], or [T*N, C, H, W] of T time steps
    """
    return ops.unpack(planes, shape, dtype, channels_last)


def pack_reference(x: Tensor, planes: int) -> Tensor:
    flat = memory_order(x).to(torch.int32)
    flat = torch.nn.functional.pad(flat, (0, -flat.shape[1] % 8))
    weights = 1 << torch.arange(8, dtype=torch.int32, device=x.device)
    bits = [(flat >> p & 1).unflatten(1, (-1, 8)) for p in range(planes)]
    return torch.stack([(of_plane * weights).sum(-1) for of_plane in bits], 1).to(torch.uint8)


def unpack_reference(planes: Tensor, shape: Sequence[int], dtype: torch.dtype, channels_last: bool) -> Tensor:
    steps, count, _ = planes.shape
    shifts = torch.arange(8, dtype=torch.int32, device=planes.device)
    bits = (planes.int()[..., None] >> shifts & 1).flatten(2)  # [T, planes, values]
    weights = 1 << torch.arange(count, dtype=torch.int32, device=planes.device)
    out = empty(shape, dtype, channels_last, planes.device)
    if not out.numel():
        return out
    flat = (bits * weights[:, None]).sum(1)[:, : out.numel() // steps].to(dtype).flatten()
    if channels_last:
        channels, height, width = shape[-3:]
        flat = flat.view(-1, height, width, channels).permute(0, 3, 1, 2)
    return out.copy_(flat.reshape(shape))


def require_planes(planes: int) -> None:
    if not 1 <= planes <= num_planes(MAX_PACKED_VALUE):
        raise ValueError(f"{planes} bit planes are out of range; use 1 to {num_planes(MAX_PACKED_VALUE)}")


def require_planes_shape(planes: Tensor, shape: Sequence[int]) -> None:
    """Refuse bit planes that are not of such a tensor: kernels would read beyond their end."""
    if planes.dim() != 3 or planes.dtype != torch.uint8:
        raise ValueError(f"bit planes are uint8 [T, planes, bytes], given {planes.dtype} {list(planes.shape)}")
    steps, count, _ = planes.shape
    require_planes(count)
    frames = shape if len(shape) == 5 else (steps, shape[0] // max(steps, 1), *shape[1:])
    if math.prod(frames) != math.prod(shape) or tuple(planes.shape) != planes_shape(frames, count):
        raise ValueError(f"bit planes {list(planes.shape)} are not those of values {list(shape)}")


impl("CompositeExplicitAutograd", pack=pack_reference, unpack=unpack_reference)
