"""Spiking layers written from the equations alone, with weights by name: what whole networks are compared with."""

import torch
import torch.nn.functional as F
from torch import nn


def drawn(net):
    """Every norm its own, so that all of them matter, and all neurons fire."""
    torch.manual_seed(1)
    for norm in (module for module in net.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.6, 1.4)
        nn.init.uniform_(norm.bias, -0.1, 0.5)
        nn.init.normal_(norm.running_mean, std=0.1)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return net


class Spike(torch.autograd.Function):
    """E2, and the slope atan of E4 for alpha = 2."""

    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx, grad):
        (u,) = ctx.saved_tensors
        return grad / (1 + (torch.pi * u) ** 2)


def fire(x, leak, v_th=1.0):
    """E1 to E3 at a threshold, hard reset to 0: v = (1 - leak) v + b x, b = leak where the neuron leaks, else 1."""
    v, spikes = torch.zeros_like(x[0]), []
    for x_t in x:
        h = (1 - leak) * v + (leak or 1.0) * x_t
        spikes.append(Spike.apply(h - v_th))
        v = h * (1 - spikes[-1].detach())
    return torch.stack(spikes)


def conv_norm(weights, name, x, stride, training, scale=1.0):
    """Every frame is convolved; the norm's statistics are over time, batch and space. E11 has a scale."""
    weight = weights[f"{name}.conv.weight"]
    frames = F.conv2d(x.flatten(0, 1), weight, stride=stride, padding=weight.shape[-1] // 2)
    mean, var = (weights[f"{name}.norm.running_{key}"] for key in ("mean", "var"))
    if training:
        mean, var = frames.mean((0, 2, 3)), frames.var((0, 2, 3), correction=0)
    mean, var, gamma, beta = (
        t[:, None, None] for t in (mean, var, weights[f"{name}.norm.weight"], weights[f"{name}.norm.bias"])
    )
    return (scale * (frames - mean) / torch.sqrt(var + 1e-5) * gamma + beta).unflatten(0, x.shape[:2])
