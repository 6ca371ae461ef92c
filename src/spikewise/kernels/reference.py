"""The definition of every kernel: plain PyTorch, any device and floating dtype, never optimised.

Other backends are judged by this file, and this file by hand-computed numbers.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .connect import Connect
from .dynamics import Dynamics
from .packing import Spikes, packed
from .surrogate import step

PACKS = False  # autograd keeps every step of these: bit planes would save nothing
SEQUENCE_OR_REPEAT = "current is a sequence, repeat reads one frame again and again: give only one of them"


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Membranes are float32 under half-precision storage; float64 stays float64."""
    return torch.promote_types(dtype, torch.float32)


def fire(
    x: Tensor, dynamics: Dynamics, *, v: Tensor | None = None, repeat: int = 0, keep_v: bool = True
) -> tuple[Tensor, Tensor | None]:
    """Run the neurons over time (E1-E4).

    Shapes:  x [T, N, ...] current, or [N, ...] read `repeat` times; v [N, ...] membrane before the first step, None: at rest
             -> spikes [T, N, ...] in x's dtype; v [N, ...] membrane after the last step, float32 or float64
    keep_v:  whether the membrane is asked for; None is returned instead
    """
    a, b, c, v_th, v_reset, surrogate, alpha, detach_reset = dynamics
    dtype = compute_dtype(x.dtype)
    currents = [x] * repeat if repeat else list(x.unbind())
    if v is None:
        v = torch.full_like(currents[0], dynamics.rest, dtype=dtype)
    spikes = []
    for x_t in currents:
        h = a * v + b * x_t.to(dtype) + c  # E1 charge
        s = step(h - v_th, surrogate, alpha)  # E2 fire; backward uses the slope
        r = s.detach() if detach_reset else s
        v = h - r * v_th if v_reset is None else (1 - r) * h + r * v_reset  # E3 reset
        spikes.append(s.to(x.dtype))
    # cat, not stack: cat keeps the channels-last layout of its parts
    return torch.cat(spikes).unflatten(0, (len(spikes), len(v))), v if keep_v else None


def norm_stats(y: Tensor, *, channel_axis: int) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel.

    Shapes:  y [..., C, ...] -> mean [C], variance [C], float32 or float64
    """
    others = [axis for axis in range(y.dim()) if axis != channel_axis]
    variance, mean = torch.var_mean(y.to(compute_dtype(y.dtype)), others, correction=0)
    return mean, variance


def scale_and_shift(weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Batch norm as one multiplication and one addition per channel: [C], [C], float32 or float64."""
    dtype = compute_dtype(mean.dtype)
    return affine(weight.to(dtype), bias.to(dtype), mean.to(dtype), variance.to(dtype), eps)


def affine(weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """`scale_and_shift` of tensors that have the right precision already."""
    scale = weight * torch.rsqrt(variance + eps)
    return scale, bias - mean * scale


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
    pool: tuple[int, int, int] | None = None,
    most: int = 0,
    packed_in: Tensor | None = None,
) -> tuple[Tensor | Spikes, Tensor | None]:
    """Normalise, run the neurons, connect with the shortcut: all that happens between two convolutions.

    Shapes:  y [T, N, C, H, W], or [N, C, H, W] read `repeat` times; scale, shift [C]; current like y;
             shortcut [T, N, C, H, W]; v [N, C, H, W]
             -> output [T, N, C, H, W] in y's dtype; v [N, C, H, W], None unless `keep_v`
    shortcut, connect: the block's input and g, applied to the spikes (E6, E7)
    current:           added to the normalised value before the neurons (the shortcut of E8)
    pool:              size, stride and padding of a max pooling of the output [T, N, C, H', W']; None: no pooling
    most:              the largest value of the output, where its bit planes are wanted, too, in a `Spikes`; 0: they are not
    packed_in:         bit planes of the shortcut, or of the current, to be kept for backward in its place
    Raises:            ValueError for `current` beside `repeat`: a still image has no sequence of currents
    """
    if repeat and current is not None:
        raise ValueError(SEQUENCE_OR_REPEAT)
    dtype = compute_dtype(y.dtype)
    x = y.to(dtype) * scale.to(dtype)[:, None, None] + shift.to(dtype)[:, None, None]
    if current is not None:
        x = x + current.to(dtype)
    # the currents stay in the membrane's precision; only the spikes are stored in y's
    spikes, v_end = fire(x, dynamics, v=v, repeat=repeat, keep_v=keep_v)
    spikes = spikes.to(y.dtype)
    out = spikes if connect is None or shortcut is None else connect(spikes, shortcut)
    if pool is not None:
        out = max_pool(out.flatten(0, 1), *pool).unflatten(0, out.shape[:2])
    return packed(out, most) if most else out, v_end


def batch_norm_fire(
    y: Tensor, weight: Tensor, bias: Tensor, eps: float, dynamics: Dynamics, **options: Any
) -> tuple[Tensor | Spikes, Tensor | None, Tensor, Tensor]:
    """`norm_fire` with the statistics of this batch, through which gradients flow; also returns them: mean [C], variance [C].

    weight, bias:  gamma and beta [C]
    options:       those of `norm_fire`
    """
    mean, variance = norm_stats(y, channel_axis=y.dim() - 3)
    out, v_end = norm_fire(y, *scale_and_shift(weight, bias, mean, variance, eps), dynamics, **options)
    return out, v_end, mean.detach(), variance.detach()


def max_pool(x: Tensor, size: int, stride: int, padding: int) -> Tensor:
    """Max pooling of images: the first of equal values wins. [N, C, H, W] -> [N, C, H', W']"""
    return F.max_pool2d(x, size, stride, padding)
