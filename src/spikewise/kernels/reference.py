"""The definition of every kernel: plain PyTorch, any device and floating dtype, never optimised.

Other backends are judged by this file, and this file by hand-computed numbers.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .dynamics import Dynamics
from .surrogate import step

Connect = Callable[[Tensor, Tensor], Tensor]


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Membranes are float32 under half-precision storage; float64 stays float64."""
    return torch.promote_types(dtype, torch.float32)


def fire(x: Tensor, dynamics: Dynamics, *, v: Tensor | None = None, repeat: int = 0) -> tuple[Tensor, Tensor]:
    """Run the neurons over time (E1-E4).

    Shapes:  x [T, N, ...] current, or [N, ...] read `repeat` times; v [N, ...] membrane before the first step, None: at rest
             -> spikes [T, N, ...] in x's dtype; v [N, ...] membrane after the last step, float32 or float64
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
    return torch.cat(spikes).unflatten(0, (len(spikes), len(v))), v


def norm_stats(y: Tensor, *, channel_axis: int) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel.

    Shapes:  y [..., C, ...] -> mean [C], variance [C], float32 or float64
    """
    others = [axis for axis in range(y.dim()) if axis != channel_axis]
    variance, mean = torch.var_mean(y.to(compute_dtype(y.dtype)), others, correction=0)
    return mean, variance


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
) -> tuple[Tensor, Tensor]:
    """Normalise, run the neurons, connect with the shortcut: all that happens between two convolutions.

    Shapes:  y [T, N, C, H, W], or [N, C, H, W] read `repeat` times; scale, shift [C]; current like y;
             shortcut [T, N, C, H, W]; v [N, C, H, W]
             -> output [T, N, C, H, W] in y's dtype; v [N, C, H, W]
    shortcut, connect: the block's input and g, applied to the spikes (E6, E7)
    current:           added to the normalised value before the neurons (the shortcut of E8)
    """
    dtype = compute_dtype(y.dtype)
    x = y.to(dtype) * scale.to(dtype)[:, None, None] + shift.to(dtype)[:, None, None]
    if current is not None:
        x = x + current.to(dtype)
    # the currents stay in the membrane's precision; only the spikes are stored in y's
    spikes, v = fire(x, dynamics, v=v, repeat=repeat)
    spikes = spikes.to(y.dtype)
    return (spikes if connect is None or shortcut is None else connect(spikes, shortcut)), v
