"""Surrogate gradients: what stands in for the derivative of the firing step (E4)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def atan(u: Tensor, alpha: float) -> Tensor:
    """Slope of an arctan: alpha / (2 (1 + (pi alpha u / 2)^2)). Fang et al. 2021, A.1; alpha = 2 there."""
    return (alpha / 2) / (1 + (math.pi / 2 * alpha * u) ** 2)


def sigmoid(u: Tensor, alpha: float) -> Tensor:
    """Slope of a sigmoid: alpha s (1 - s), s the sigmoid of alpha u. Neftci et al. 2019."""
    s = torch.sigmoid(alpha * u)
    return alpha * s * (1 - s)


def rectangular(u: Tensor, alpha: float) -> Tensor:
    """A box of unit area: alpha where |u| < 1 / (2 alpha), else 0. Wu et al. 2018."""
    return alpha * (u.abs() < 1 / (2 * alpha)).to(u.dtype)


def triangular(u: Tensor, alpha: float) -> Tensor:
    """A triangle of unit area: alpha max(0, 1 - alpha |u|). Esser et al. 2016, Bellec et al. 2018."""
    return alpha * (1 - alpha * u.abs()).clamp(min=0)


def fast_sigmoid(u: Tensor, alpha: float) -> Tensor:
    """Slope of u / (1 + alpha |u|): 1 / (1 + alpha |u|)^2. Zenke and Ganguli 2018 (SuperSpike)."""
    return 1 / (1 + alpha * u.abs()) ** 2


def erf(u: Tensor, alpha: float) -> Tensor:
    """A Gaussian of unit area: alpha exp(-(alpha u)^2) / sqrt(pi). Yin et al. 2020."""
    return alpha / math.sqrt(math.pi) * torch.exp(-((alpha * u) ** 2))


def scaled_atan(u: Tensor, alpha: float) -> Tensor:
    """Slope of an arctan, lifted: at v_th = 0.5 it is 1 both at h = 0 and at h = 1. Fang et al. 2021, A.5."""
    return (1 + (math.pi / 4 * alpha) ** 2) / (1 + (math.pi / 2 * alpha * u) ** 2)


SURROGATES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "atan": atan,
    "sigmoid": sigmoid,
    "rectangular": rectangular,
    "triangular": triangular,
    "fast_sigmoid": fast_sigmoid,
    "erf": erf,
    "scaled_atan": scaled_atan,
}


class _Heaviside(torch.autograd.Function):
    """E2 forward, E4 backward."""

    generate_vmap_rule = True  # for torch.func, as `setup_context` is

    @staticmethod
    def forward(u: Tensor, surrogate: str, alpha: float) -> Tensor:
        return (u >= 0).to(u.dtype)

    @staticmethod
    def setup_context(ctx, inputs, output):
        u, ctx.surrogate, ctx.alpha = inputs
        ctx.save_for_backward(u)
        ctx.save_for_forward(u)

    @staticmethod
    def backward(ctx, *grads: Tensor):
        (u,) = ctx.saved_tensors
        return grads[0] * SURROGATES[ctx.surrogate](u, ctx.alpha), None, None


class _HeavisideForwardMode(_Heaviside):
    """With forward-mode derivatives, which torch.compile does not trace."""

    @staticmethod
    def jvp(ctx, *tangents):
        (u,) = ctx.saved_tensors
        return tangents[0] * SURROGATES[ctx.surrogate](u, ctx.alpha)


def heaviside(u: Tensor, surrogate: str, alpha: float) -> Tensor:
    """Fire: 1 where u = h - v_th is at least 0 (E2), with the slope of `surrogate` in backward (E4).

    Shapes:  u [...] -> spikes [...], 0.0 or 1.0, same dtype
    """
    function = _Heaviside if torch.compiler.is_compiling() else _HeavisideForwardMode
    return function.apply(u, surrogate, alpha)
