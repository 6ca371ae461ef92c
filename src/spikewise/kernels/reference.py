"""The definition of every kernel: plain PyTorch, any device and floating dtype, never optimised.

Other backends are judged by this file, and this file by hand-computed numbers.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .connect import ConnectFn
from .spec import NeuronParams, NormParams, PoolWindow
from .surrogate import heaviside

REPEAT_WITH_CURRENT = "current is a sequence, repeat_steps reads one frame again and again: give only one of them"


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Membranes are float32 under half-precision storage; float64 stays float64."""
    return torch.promote_types(dtype, torch.float32)


def fire(
    x: Tensor, neuron: NeuronParams, *, v: Tensor | None = None, repeat_steps: int = 0, return_membrane: bool = True
) -> tuple[Tensor, Tensor | None]:
    """Run the neurons over time (E1-E4).

    Shapes:           x [T, N, ...] current, or [N, ...] read `repeat_steps` times;
                      v [N, ...] membrane before the first step, None: at rest
                      -> spikes [T, N, ...] in x's dtype; v [N, ...] membrane after the last step, float32 or float64
    return_membrane:  whether the membrane is wanted; None is returned instead
    """
    a, b, c, v_th, v_reset, surrogate, alpha, detach_reset = neuron
    dtype = compute_dtype(x.dtype)
    currents = [x] * repeat_steps if repeat_steps else list(x.unbind())
    if v is None:
        v = torch.zeros_like(currents[0], dtype=dtype) + neuron.v_rest
    spikes = []
    for x_t in currents:
        h = a * v + b * x_t.to(dtype) + c  # E1 charge
        s = heaviside(h - v_th, surrogate, alpha)  # E2 fire; backward uses the slope
        v = reset(h, s, v_th, v_reset, detach_reset)  # E3 reset
        spikes.append(s.to(x.dtype))
    # cat, not stack: cat keeps the channels-last layout of its parts
    return torch.cat(spikes).unflatten(0, (len(spikes), v.shape[0])), v if return_membrane else None


def reset(h: Tensor, s: Tensor, v_th: float | Tensor, v_reset: float | Tensor | None, detach: bool) -> Tensor:
    """The membrane behind spikes s of the charged membrane h (E3): v_reset, or with None less by v_th.

    detach:  whether backward treats the spike in it as a constant
    """
    r = s.detach() if detach else s
    return h - r * v_th if v_reset is None else (1 - r) * h + r * v_reset


def norm_stats(y: Tensor, channel_axis: int) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel.

    Shapes:  y [..., C, ...] -> mean [C], variance [C], float32 or float64
    """
    others = [axis for axis in range(y.dim()) if axis != channel_axis]
    variance, mean = torch.var_mean(y.to(compute_dtype(y.dtype)), others, correction=0)
    return mean, variance


def with_stats(y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The values, for `norm_fire`, and their statistics, through which gradients flow: for norms over more than these values,
    whose `norm_fire` is given the statistics of all.

    Shapes:  y [..., C, H, W] -> y, mean [C], variance [C]
    """
    return y, *norm_stats(y, y.dim() - 3)


def scale_and_shift(norm: NormParams) -> tuple[Tensor, Tensor, Tensor]:
    """Batch norm with given statistics as one product and one sum per channel, and 1 / standard deviation: [C] each."""
    assert norm.mean is not None and norm.variance is not None, "statistics are taken first"
    dtype = compute_dtype(norm.mean.dtype)
    weight, bias, mean, variance = (t.to(dtype) for t in (norm.weight, norm.bias, norm.mean, norm.variance))
    inverse_std = torch.rsqrt(variance + norm.eps)
    scale = weight * inverse_std
    return scale, bias - mean * scale, inverse_std


def channel_grads(sums: Tensor, scale: Tensor, inverse_std: Tensor) -> Tensor:
    """Gradients of the norm's bias and weight, and of the mean and variance that y was normalised with.

    Shapes:  sums [2, C] over a channel of g and of g (y - mean), g the gradient at the normalised y; scale, inverse_std [C] of
             `scale_and_shift` -> [4, C]
    """
    grad_bias, centered = sums
    grad_weight = inverse_std * centered
    return torch.stack([grad_bias, grad_weight, -scale * grad_bias, -(scale * inverse_std) * grad_weight / 2])


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
    """Normalise, run the neurons, connect with the shortcut: all that happens between two convolutions.

    Shapes:            y [T, N, C, H, W], or [N, C, H, W] read `repeat_steps` times; current like y;
                       shortcut [T, N, C, H, W]; v [N, C, H, W]
                       -> output [T, N, C, H, W] in y's dtype; v [N, C, H, W], None unless `return_membrane`;
                       mean [C] and biased variance [C] that y was normalised with
    norm:              without statistics, those of this batch are taken, and gradients flow through them
    shortcut, connect: the block's input and g, applied to the spikes (E6, E7)
    current:           added to the normalised value before the neurons (the shortcut of E8)
    pool:              a max pooling of the output [T, N, C, H', W']
    packing:           whether to note on the output what is known of it (packing.py), and with `emit_planes` its bit planes;
                       the reference never does
    Raises:            ValueError for `current` beside `repeat_steps`: a still image has no sequence of currents
    """
    if repeat_steps and current is not None:
        raise ValueError(REPEAT_WITH_CURRENT)
    if norm.mean is None:
        mean, variance = norm_stats(y, y.dim() - 3)
        norm = NormParams(norm.weight, norm.bias, norm.eps, mean, variance)
    assert norm.mean is not None and norm.variance is not None
    scale, shift, _ = scale_and_shift(norm)
    dtype = compute_dtype(y.dtype)
    x = y.to(dtype) * scale.to(dtype)[:, None, None] + shift.to(dtype)[:, None, None]
    if current is not None:
        x = x + current.to(dtype)
    # the currents stay in the membrane's precision; only the spikes are stored in y's
    spikes, v_last = fire(x, neuron, v=v, repeat_steps=repeat_steps, return_membrane=return_membrane)
    spikes = spikes.to(y.dtype)
    out = spikes if connect is None or shortcut is None else connect(spikes, shortcut)
    if pool is not None:
        out = max_pool(out.flatten(0, 1), *pool).unflatten(0, out.shape[:2])
    return out, v_last, norm.mean.detach(), norm.variance.detach()


def max_pool(x: Tensor, size: int, stride: int, padding: int = 0) -> Tensor:
    """Max pooling of images: the first of equal values wins. [N, C, H, W] -> [N, C, H', W']"""
    return F.max_pool2d(x, size, stride, padding)
