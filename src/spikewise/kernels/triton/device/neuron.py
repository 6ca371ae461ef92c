# mypy: ignore-errors
"""Neurons: E1 to E4 of docs/equations.md as Triton has them, on tiles of float32 (native/neuron.h is the same in C)."""

import math

import triton
import triton.language as tl

from ...spec import Surrogate

HALF_PI = tl.constexpr(math.pi / 2)
QUARTER_PI = tl.constexpr(math.pi / 4)
ONE_OVER_ROOT_PI = tl.constexpr(1 / math.sqrt(math.pi))
ATAN = tl.constexpr(int(Surrogate.ATAN))
SIGMOID = tl.constexpr(int(Surrogate.SIGMOID))
RECTANGULAR = tl.constexpr(int(Surrogate.RECTANGULAR))
TRIANGULAR = tl.constexpr(int(Surrogate.TRIANGULAR))
FAST_SIGMOID = tl.constexpr(int(Surrogate.FAST_SIGMOID))
ERF = tl.constexpr(int(Surrogate.ERF))
SCALED_ATAN = tl.constexpr(int(Surrogate.SCALED_ATAN))


@triton.jit
def load_neuron(coefficients, a, b, c, v_th, v_reset):
    """What the functions below take: a, b, c (from memory where they are learned), v_th, v_reset (0 under soft reset)."""
    if coefficients is not None:
        a, b, c = tl.load(coefficients), tl.load(coefficients + 1), tl.load(coefficients + 2)
    return (a, b, c, v_th, v_reset)


@triton.jit
def charge(v, x, neuron):
    """E1. neuron: a, b, c, v_th, v_reset. With a = b = 1, c = 0 nothing is rounded, so that IF needs no case of its own"""
    return neuron[0] * v + neuron[1] * x + neuron[2]


@triton.jit
def fires(h, neuron):
    """E2: 1.0 or 0.0; NaN does not fire."""
    return tl.where(h >= neuron[3], 1.0, 0.0)


@triton.jit
def reset(h, s, neuron, HARD_RESET: tl.constexpr):
    """E3."""
    return (1.0 - s) * h + s * neuron[4] if HARD_RESET else h - s * neuron[3]


@triton.jit
def slope(u, alpha, SURROGATE: tl.constexpr):
    """E4. Divisions and exp have relative errors of some 2^-22, which only gradients see: a division that rounds to nearest
    takes a slow path for some numbers, and nearly twice the registers. The edge of the box is where the reference has it.
    """
    size = tl.abs(u)
    one = tl.full(u.shape, 1.0, tl.float32)
    if SURROGATE == ATAN:
        w = (HALF_PI * alpha) * u
        f = (one * (alpha * 0.5)) / (1.0 + w * w)
    elif SURROGATE == SIGMOID:
        e = tl.exp(-alpha * size)
        s = one / (1.0 + e)
        f = alpha * (s * (e * s))
    elif SURROGATE == RECTANGULAR:
        f = tl.where(size < tl.div_rn(one, one * (2.0 * alpha)), alpha, 0.0)
    elif SURROGATE == TRIANGULAR:
        y = 1.0 - alpha * size
        f = alpha * tl.where(y < 0.0, 0.0, y)
    elif SURROGATE == FAST_SIGMOID:
        y = one / (1.0 + alpha * size)
        f = y * y
    elif SURROGATE == ERF:
        w = alpha * u
        f = (alpha * ONE_OVER_ROOT_PI) * tl.exp(-(w * w))
    else:
        tl.static_assert(SURROGATE == SCALED_ATAN)
        w = (HALF_PI * alpha) * u
        lift = QUARTER_PI * alpha
        f = (one * (1.0 + lift * lift)) / (1.0 + w * w)
    return f
