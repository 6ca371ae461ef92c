"""Batch norm, recurrence and connection in one pass over memory, by the operators: in C on the CPU, in Triton on CUDA."""

import functools
import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import max_pool as _max_pool  # noqa: F401  registers its operators
from . import pooled, reference
from .calls import Rules, channels_inner
from .connect import CONNECT, Connect
from .dynamics import Dynamics
from .operators import ops
from .packing import Spikes, packed, planes_for, said_of
from .pooled import Window

PACKS = True  # hands on bit planes, if asked to
CONNECTS = list(CONNECT.values())
PLAIN = -1  # no connection


def fire(
    x: Tensor, dynamics: Dynamics, *, v: Tensor | None = None, repeat: int = 0, keep_v: bool = True
) -> tuple[Tensor, Tensor | None]:
    """As `reference.fire`."""
    shape = x.shape if repeat else x.shape[1:]
    if v is not None and v.shape != shape:
        raise ValueError(f"a membrane of {list(v.shape)} does not fit currents of {list(shape)} per time step")
    flat = x.reshape(math.prod(shape)) if repeat else x.reshape(len(x), math.prod(shape))
    one, zero = x.new_ones(1, dtype=torch.float32), x.new_zeros(1, dtype=torch.float32)
    frames = flat[..., None, None, None]  # [T, n, 1, 1, 1]: one channel
    membrane = None if v is None else v.reshape(math.prod(shape))[:, None, None, None]
    out, v_end = norm_fire(frames, one, zero, dynamics, v=membrane, repeat=repeat, keep_v=keep_v)
    assert isinstance(out, Tensor), "no planes were asked for"
    return out.reshape(len(out), *shape), None if v_end is None else v_end.reshape(shape)


def norm_stats(y: Tensor, *, channel_axis: int) -> tuple[Tensor, Tensor]:
    """As `reference.norm_stats`."""
    return ops.norm_stats(y, channel_axis)


def norm_fire(
    y: Tensor,
    scale: Tensor,
    shift: Tensor,
    dynamics: Dynamics,
    *,
    shortcut: Tensor | None = None,
    connect: Connect | None = None,
    current: Tensor | None = None,
    v: Tensor | None = None,
    repeat: int = 0,
    keep_v: bool = True,
    pool: Window | None = None,
    most: int = 0,
    packed_in: Tensor | None = None,
) -> tuple[Tensor | Spikes, Tensor | None]:
    """As `reference.norm_fire`."""
    options: dict[str, Any] = {
        "shortcut": shortcut,
        "connect": connect,
        "current": current,
        "v": v,
        "repeat": repeat,
        "keep_v": keep_v,
    }
    if current is not None and current.dtype != y.dtype:  # added in the wider of the two
        return reference.norm_fire(y, scale, shift, dynamics, **options, pool=pool, most=most)
    inside, tensors, rules = prepared(y, dynamics, shortcut, connect, current, v, repeat)
    given = (y, scale.float(), shift.float(), coefficients(dynamics, y.device))
    planes = planes_for(most)
    if pool is not None and pooled.fits(y, pool, options):
        out, _, bits = ops.fire_pool(*given, *rules, pool, planes)
        return handed_on(out, bits, most), None
    last = pool is None and (inside or connect is None or shortcut is None)  # nothing happens to the output any more
    out, v_end, bits = ops.norm_fire(*given, *tensors, *rules, keep_v, planes * last, packed_in)
    if not last:
        out, bits = finished(out, None if inside else connect, shortcut, pool), None
    return handed_on(out, bits, most), v_end if keep_v else None


def batch_norm_fire(
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    dynamics: Dynamics,
    *,
    shortcut: Tensor | None = None,
    connect: Connect | None = None,
    current: Tensor | None = None,
    v: Tensor | None = None,
    repeat: int = 0,
    keep_v: bool = True,
    pool: Window | None = None,
    most: int = 0,
    packed_in: Tensor | None = None,
) -> tuple[Tensor | Spikes, Tensor | None, Tensor, Tensor]:
    """As `reference.batch_norm_fire`."""
    options: dict[str, Any] = {
        "shortcut": shortcut,
        "connect": connect,
        "current": current,
        "v": v,
        "repeat": repeat,
        "keep_v": keep_v,
    }
    if current is not None and current.dtype != y.dtype:  # added in the wider of the two
        return reference.batch_norm_fire(y, weight, bias, eps, dynamics, **options, pool=pool, most=most)
    inside, tensors, rules = prepared(y, dynamics, shortcut, connect, current, v, repeat)
    given = (y, weight.float(), bias.float(), coefficients(dynamics, y.device))
    planes = planes_for(most)
    if pool is not None and pooled.fits(y, pool, options):
        out, _, bits, mean, variance = ops.batch_norm_fire_pool(*given, *rules, pool, planes, eps)
        return handed_on(out, bits, most), None, mean, variance
    last = pool is None and (inside or connect is None or shortcut is None)
    out, v_end, bits, mean, variance = ops.batch_norm_fire(*given, *tensors, *rules, keep_v, planes * last, packed_in, eps)
    if not last:
        out, bits = finished(out, None if inside else connect, shortcut, pool), None
    return handed_on(out, bits, most), v_end if keep_v else None, mean, variance


def finished(out: Tensor, connect: Connect | None, shortcut: Tensor | None, pool: Window | None) -> Tensor:
    """What the operators leave to be done: a connection of the user's own, max pooling of every time step."""
    if connect is not None and shortcut is not None:
        out = connect(out, shortcut)
    return out if pool is None else max_pool(out.flatten(0, 1), *pool).unflatten(0, out.shape[:2])


def handed_on(out: Tensor, bits: Tensor | None, most: int) -> Tensor | Spikes:
    """With its bit planes, where they are asked for."""
    if not planes_for(most):
        return out
    return packed(out, most) if bits is None else said_of(out, bits, most)


def prepared(
    y: Tensor,
    dynamics: Dynamics,
    shortcut: Tensor | None,
    connect: Connect | None,
    current: Tensor | None,
    v: Tensor | None,
    repeat: int,
) -> tuple[bool, tuple[Tensor | None, Tensor | None, Tensor | None], Rules]:
    """Whether the connection is made inside, and what the operators take. A g of the user's own is applied outside."""
    if not torch.compiler.is_compiling() and (torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0):
        raise NotImplementedError(
            "spikewise's fused kernels do not run under vmap, forward-mode or other transforms of torch.func; "
            "build the network with backend='reference'"
        )
    if repeat and current is not None:
        raise ValueError(reference.SEQUENCE_OR_REPEAT)
    sequence = (repeat or len(y), *y.shape[-4:])
    fits = shortcut is not None and shortcut.dtype == y.dtype and shortcut.shape == sequence
    inside = connect in CONNECTS and fits
    rules = Rules(CONNECTS.index(connect) if inside else PLAIN, repeat, *dynamics[3:])  # type: ignore[arg-type]
    return inside, (shortcut if inside else None, current, None if v is None else v.float()), rules


def coefficients(dynamics: Dynamics, device: torch.device) -> Tensor:
    """a, b, c of E1 as one tensor [3], float32."""
    numbers = dynamics[:3]
    if not any(isinstance(number, Tensor) for number in numbers):
        if device.type == "cuda" and not torch.compiler.is_compiling() and not is_fake():
            return constant(numbers, device)
        return torch.tensor(numbers, dtype=torch.float32, device=device)
    tensors = [number if isinstance(number, Tensor) else torch.tensor([number], device=device) for number in numbers]
    return torch.cat([tensor.float().reshape(1) for tensor in tensors])


@functools.cache
def constant(numbers: tuple[float, float, float], device: torch.device) -> Tensor:
    """Copied to the device once: a copy waits for all that the device has still to do.

    What was first asked for in inference mode must serve training, too.
    """
    with torch.inference_mode(mode=False):
        return torch.tensor(numbers, dtype=torch.float32, device=device)


def is_fake() -> bool:
    """Whether tensors are fake, for tracing: none of them may stay."""
    return torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE) is not None


def max_pool(x: Tensor, size: int, stride: int, padding: int) -> Tensor:
    """As `reference.max_pool`; backward keeps a byte per output."""
    if not channels_inner(x) or size * size > 256 or stride < 1 or 2 * padding > size:
        return reference.max_pool(x, size, stride, padding)
    return ops.max_pool(x, size, stride, padding)[0]
