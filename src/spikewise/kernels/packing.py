"""Spikes and small integers as bit planes: what backward keeps of them, an eighth of a byte per spike.

Plane p holds bit p of every value, in the order of memory (channels inner or outer), eight to a byte, the first in the lowest
bit; every time step begins with a byte of its own.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..native import load as native
from .calls import DTYPES, PackingCall, Planes, channels_inner, empty, laid_out, pointer, run, team

MOST = 255  # the largest value that is packed

_lib = torch.library.Library("spikewise", "FRAGMENT")
_lib.define("pack(Tensor x, int planes) -> Tensor")
_lib.define("unpack(Tensor packed, SymInt[] shape, ScalarType dtype, bool inner) -> Tensor")


class Spikes(NamedTuple):
    """What a layer hands to the next in training: its spikes, or the integers ADD made of them, and the same as bit planes.

    values:  [T, N, C, H, W], or [T*N, C, H, W] of a layer without time
    packed:  uint8 [T, planes, bytes]; None where the values are to be kept whole
    most:    the largest value that the architecture allows; 0 where it does not say
    version: of the values, when this was said of them: who changes values in place makes it untrue (None: it is not checked)

    Who hands on other values hands on a tensor, or `Spikes(values)`.
    """

    values: Tensor
    packed: Tensor | None = None
    most: int = 0
    version: int | None = None

    def images(self) -> "Spikes":
        """As images [T*N, C, H, W]."""
        known = self.checked()
        return said_of(known.values.flatten(0, 1), known.packed, known.most)

    def checked(self) -> "Spikes":
        """Itself; without planes and bound where the values were changed in place since."""
        now = version_of(self.values)
        return self if None in (self.version, now) or self.version == now else Spikes(self.values)


def version_of(values: Tensor) -> int | None:
    """How often the values were changed in place, as autograd counts; None where nothing counts."""
    return None if torch.compiler.is_compiling() or values.is_inference() else values._version


def said_of(values: Tensor, packed: Tensor | None, most: int) -> Spikes:
    """`Spikes` of values as they are now."""
    return Spikes(values, packed, most, version_of(values))


def values_of(x: Tensor | Spikes) -> Tensor:
    return x.values if isinstance(x, Spikes) else x


def planes_for(most: int) -> int:
    """Planes that hold 0 to `most`; 0 where it is unknown (0) or too large: such values stay whole."""
    return most.bit_length() if 0 < most <= MOST else 0


def packed(values: Tensor, most: int) -> Spikes:
    """Values [T, N, C, H, W] of 0 to `most`, with their planes; whole where `planes_for(most)` is 0."""
    planes = planes_for(most)
    return said_of(values, pack(values, planes), most) if planes else Spikes(values)


def pack(x: Tensor, planes: int) -> Tensor:
    """Bit planes of values 0 to 2^planes - 1; of others, the lowest bits of their integer part: to be kept away.

    Shapes:  x [T, N, C, H, W] -> uint8 [T, planes, ceil(N*C*H*W / 8)]; x [N, C, H, W] is one time step
    """
    return torch.ops.spikewise.pack(x.detach(), planes)


def unpack(packed: Tensor, shape: Sequence[int], dtype: torch.dtype, *, inner: bool) -> Tensor:
    """The values again, exactly, in this dtype and layout (`inner`: channels last).

    Shapes:  uint8 [T, planes, bytes] -> `shape`, [T, N, C, H, W], or [T*N, C, H, W] of T time steps
    """
    return torch.ops.spikewise.unpack(packed, shape, dtype, inner)


def in_memory(x: Tensor) -> Tensor:
    """[T, N*C*H*W] in the order of memory."""
    steps = len(x) if x.dim() == 5 else 1
    images = x.flatten(0, 1) if x.dim() == 5 else x
    return (images.permute(0, 2, 3, 1) if channels_inner(images) else images).reshape(steps, -1)


def pack_reference(x: Tensor, planes: int) -> Tensor:
    flat = in_memory(x).to(torch.int32)
    flat = torch.nn.functional.pad(flat, (0, -flat.shape[1] % 8))
    weights = 1 << torch.arange(8, dtype=torch.int32, device=x.device)
    bits = [(flat >> p & 1).unflatten(1, (-1, 8)) for p in range(planes)]
    return torch.stack([(of_plane * weights).sum(-1) for of_plane in bits], 1).to(torch.uint8)


def unpack_reference(packed: Tensor, shape: Sequence[int], dtype: torch.dtype, inner: bool) -> Tensor:
    steps, planes, _ = packed.shape
    shifts = torch.arange(8, dtype=torch.int32, device=packed.device)
    bits = (packed.int()[..., None] >> shifts & 1).flatten(2)  # [T, planes, values]
    weights = 1 << torch.arange(planes, dtype=torch.int32, device=packed.device)
    out = empty(shape, dtype, inner, packed.device)
    if not out.numel():
        return out
    flat = (bits * weights[:, None]).sum(1)[:, : out.numel() // steps].to(dtype).flatten()
    images, channels, height, width = out.numel() // (shape[-1] * shape[-2] * shape[-3]), *shape[-3:]
    if inner:
        flat = flat.view(images, height, width, channels).permute(0, 3, 1, 2)
    return out.copy_(flat.reshape(shape))


def require_planes(planes: int) -> None:
    if not 1 <= planes <= planes_for(MOST):
        raise ValueError(f"{planes} bit planes are out of range; use 1 to {planes_for(MOST)}")


def require_packed(packed: Tensor, shape: Sequence[int]) -> None:
    """Refuse bit planes that are not of such a tensor: C would read beyond their end."""
    if packed.dim() != 3 or packed.dtype != torch.uint8:
        raise ValueError(f"bit planes are uint8 [T, planes, bytes], given {packed.dtype} {list(packed.shape)}")
    steps, planes, _ = packed.shape
    require_planes(planes)
    frames = shape if len(shape) == 5 else (steps, shape[0] // max(steps, 1), *shape[1:])
    if math.prod(frames) != math.prod(shape) or tuple(packed.shape) != packed_shape(frames, planes):
        raise ValueError(f"bit planes {list(packed.shape)} are not those of values {list(shape)}")


def in_c(dtype: torch.dtype) -> bool:
    return dtype in DTYPES and not native.reason_against()


def packing_call(values: Tensor, steps: int, packed: Tensor) -> PackingCall:
    to = Planes(pointer(packed), packed.shape[2], packed.shape[1])
    return PackingCall(team(), steps, values.numel() // steps, to, pointer(values))


def pack_cpu(x: Tensor, planes: int) -> Tensor:
    require_planes(planes)
    if not in_c(x.dtype) or not x.numel():
        return pack_reference(x, planes)
    values = laid_out(x, channels_inner(x if x.dim() == 4 else x.flatten(0, 1)))
    out = torch.empty(packed_shape(x.shape, planes), dtype=torch.uint8, device="cpu")
    run(f"pack_{DTYPES[x.dtype]}", packing_call(values, len(out), out))
    return out


def unpack_cpu(packed: Tensor, shape: Sequence[int], dtype: torch.dtype, inner: bool) -> Tensor:
    require_packed(packed, shape)
    if not in_c(dtype) or not packed.numel():
        return unpack_reference(packed, shape, dtype, inner)
    out = empty(shape, dtype, inner)
    run(f"unpack_{DTYPES[dtype]}", packing_call(out, len(packed), packed.contiguous()))
    return out


def packed_shape(shape: Sequence[int], planes: int) -> tuple[int, int, int]:
    steps = shape[0] if len(shape) == 5 else 1
    return steps, planes, (math.prod(shape[-4:]) + 7) // 8


for name, definition, cpu in (("pack", pack_reference, pack_cpu), ("unpack", unpack_reference, unpack_cpu)):
    _lib.impl(name, definition, "CompositeExplicitAutograd")
    _lib.impl(name, cpu, "CPU")
torch.library.register_fake(
    "spikewise::pack", lambda x, planes: x.new_empty(packed_shape(x.shape, planes), dtype=torch.uint8), lib=_lib
)
torch.library.register_fake(
    "spikewise::unpack", lambda packed, shape, dtype, inner: empty(shape, dtype, inner, packed.device), lib=_lib
)
