"""Batch norm, recurrence, connection and pooling in one pass over memory: in C on the CPU, in Triton on CUDA.

The same functions as `reference`, for float32 and half precision. What the operator does not do itself, a connection of the
user's own or a pooling in another layout, is done behind it.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import reference
from .connect import ConnectFn, max_connected_value
from .layout import is_channels_last, supports_fused_pool
from .ops import MaxPool, NormFire, NormStats, ops
from .packing import known, note, note_planes, num_planes, planes_to_keep
from .reference import REPEAT_WITH_CURRENT
from .spec import CONNECT_CODES, SURROGATE_CODES, Connect, FireSpec, NeuronParams, NormParams, PoolWindow
from .surrogate import SURROGATES


def fire(
    x: Tensor, neuron: NeuronParams, *, v: Tensor | None = None, repeat_steps: int = 0, return_membrane: bool = True
) -> tuple[Tensor, Tensor | None]:
    """As `reference.fire`."""
    shape = x.shape if repeat_steps else x.shape[1:]
    if v is not None and v.shape != shape:
        raise ValueError(f"a membrane of {list(v.shape)} does not fit currents of {list(shape)} per time step")
    size = math.prod(shape)
    frames = x.reshape(size if repeat_steps else (x.shape[0], size))[..., None, None, None]  # [T, n, 1, 1, 1]: one channel
    membrane = None if v is None else v.reshape(size)[:, None, None, None]
    one, zero = torch.ones(1, device=x.device), torch.zeros(1, device=x.device)
    norm = NormParams(one, zero, 0.0, zero, one)
    out, v_last, _, _ = norm_fire(frames, norm, neuron, v=membrane, repeat_steps=repeat_steps, return_membrane=return_membrane)
    return out.reshape(out.shape[0], *shape), None if v_last is None else v_last.reshape(shape)


def norm_stats(y: Tensor, channel_axis: int) -> tuple[Tensor, Tensor]:
    """As `reference.norm_stats`; without gradients, which `norm_fire` has."""
    return ops.norm_stats(y, channel_axis)


def with_stats(y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `reference.with_stats`; only `norm_fire` may be given the values."""
    require_no_transform()
    return NormStats.apply(y)


def norm_fire(
    y: Tensor,
    norm: NormParams,
    neuron: NeuronParams,
    *,
    shortcut: Tensor | None = None,
    connect: ConnectFn | None = None,
    current: Tensor | None = None,
    v: Tensor | None = None,
    repeat_steps: int = 0,
    return_membrane: bool = True,
    pool: PoolWindow | None = None,
    packing: bool = False,
    emit_planes: bool = True,
) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """As `reference.norm_fire`."""
    require_no_transform()
    if repeat_steps and current is not None:
        raise ValueError(REPEAT_WITH_CURRENT)
    if current is not None and current.dtype != y.dtype:  # added in the wider of the two
        given: dict[str, Any] = {"shortcut": shortcut, "connect": connect, "current": current, "v": v, "pool": pool}
        return reference.norm_fire(y, norm, neuron, return_membrane=return_membrane, **given)
    if connect is None or shortcut is None:
        connect = shortcut = None
    code = connect_code(connect, shortcut, y, repeat_steps)
    alone = repeat_steps > 0 and not return_membrane and connect is current is v is None
    window = pool if pool is not None and alone and supports_fused_pool(y, pool) else None
    is_complete = (code != Connect.NONE or connect is None) and window == pool  # nothing is left to be done behind
    max_value, input_planes = known_of_inputs(shortcut, connect, current) if packing else (0, None)
    learned = isinstance(neuron.a, Tensor) or isinstance(neuron.b, Tensor) or isinstance(neuron.c, Tensor)
    spec = FireSpec(
        v_th=float(neuron.v_th),
        v_reset=None if neuron.v_reset is None else float(neuron.v_reset),
        surrogate=SURROGATE_CODES[SURROGATES[neuron.surrogate]],
        alpha=neuron.alpha,
        detach_reset=neuron.detach_reset,
        connect=code,
        repeat_steps=repeat_steps,
        pool=None if window is None else PoolWindow(*window),
        return_membrane=return_membrane,
        num_planes=num_planes(max_value) if emit_planes and is_complete and not torch.compiler.is_compiling() else 0,
        a=0.0 if learned else float(neuron.a),
        b=0.0 if learned else float(neuron.b),
        c=0.0 if learned else float(neuron.c),
    )
    out, v_last, planes, mean, variance = NormFire.apply(
        spec,
        input_planes,
        norm.eps,
        None if norm.mean is None else norm.mean.float(),
        None if norm.variance is None else norm.variance.float(),
        y,
        norm.weight.float(),
        norm.bias.float(),
        coefficients(neuron, y.device) if learned else None,
        shortcut if code != Connect.NONE else None,
        current,
        None if v is None else v.float(),
    )
    if is_complete:
        out = note(out, max_value, planes if spec.num_planes else None)
    else:
        if connect is not None and shortcut is not None and code == Connect.NONE:
            out = connect(out, shortcut)
        if pool is not None and window is None:
            out = max_pool(out.flatten(0, 1), *pool).unflatten(0, out.shape[:2])
        out = note_planes(out, max_value) if emit_planes else note(out, max_value)
    return out, v_last if return_membrane else None, mean, variance


def connect_code(connect: ConnectFn | None, shortcut: Tensor | None, y: Tensor, repeat_steps: int) -> Connect:
    """What the kernel connects itself: a g that it knows, of a shortcut in the type and shape of the spikes."""
    if connect is None or shortcut is None or shortcut.dtype != y.dtype:
        return Connect.NONE
    fits = shortcut.shape == (repeat_steps or y.shape[0], *y.shape[-4:])
    return CONNECT_CODES.get(connect, Connect.NONE) if fits else Connect.NONE


def known_of_inputs(shortcut: Tensor | None, connect: ConnectFn | None, current: Tensor | None) -> tuple[int, Tensor | None]:
    """The largest value of the output, and the bit planes of the shortcut or the current, of which only one may be there."""
    of_shortcut = None if shortcut is None else known(shortcut)
    max_value = max_connected_value(connect, 0 if of_shortcut is None else of_shortcut.max_value)
    only = current if shortcut is None else shortcut if current is None else None
    return max_value, None if only is None else planes_to_keep(only)


def require_no_transform() -> None:
    if torch.compiler.is_compiling():
        return
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        raise NotImplementedError(
            "spikewise's fused kernels do not run under vmap, forward-mode or other transforms of torch.func; "
            "build the network with backend='reference'"
        )


def coefficients(neuron: NeuronParams, device: torch.device) -> Tensor:
    """a, b, c of E1, some of them learned, as one tensor [3], float32. Numbers are filled in there: a copy would wait."""
    numbers = (neuron.a, neuron.b, neuron.c)  # not neuron[:3], which stops PyTorch 2.8's compiler
    parts = [x if isinstance(x, Tensor) else torch.full((1,), x, device=device) for x in numbers]
    return torch.cat([part.float().reshape(1) for part in parts])


def max_pool(x: Tensor, size: int, stride: int, padding: int = 0) -> Tensor:
    """As `reference.max_pool`; backward keeps a byte per output."""
    if not is_channels_last(x) or size * size > 256 or stride < 1 or 2 * padding > size:
        return reference.max_pool(x, size, stride, padding)
    return MaxPool.apply(x, size, stride, padding)
