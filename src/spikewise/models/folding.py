"""Batch norms folded into the convolutions before them: the same network in evaluation, with fewer kinds of parts."""

import copy

import torch
from torch import nn

from .calls import is_watched
from .network import Network


@torch.no_grad()
def fold_norms(net: Network) -> Network:
    """A copy of the network, in evaluation mode, whose convolutions have a bias and whose norms are gone.

    weight' = weight scale, bias' = shift, with scale = gamma / sqrt(var + eps) and shift = beta - mean scale: computed in
    float64, and rounded once to the weights' type.
    Raises:  ValueError for a norm that is no batch norm with running estimates, or that carries hooks, by its layer's name
    """
    net = copy.deepcopy(net).eval()
    for name, layer in net.conv_layers.items():
        norm, conv = layer.norm, layer.conv
        if isinstance(norm, nn.Identity):
            continue
        if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
            raise ValueError(f"{name}: a {type(norm).__name__} has no fixed scale that a convolution could take over")
        if is_watched(norm) or is_watched(conv):
            raise ValueError(f"{name}: hooks hang on its convolution or norm, which folding would remove; take them off first")
        gamma = getattr(norm, "scaled_weight", norm.weight)
        scale = torch.rsqrt(norm.running_var.double() + norm.eps) * (1.0 if gamma is None else gamma.double())
        shift = -norm.running_mean.double() * scale + (0.0 if norm.bias is None else norm.bias.double())
        if conv.bias is not None:
            shift = shift + conv.bias.double() * scale
        dtype = conv.weight.dtype
        conv.weight.data = (conv.weight.double() * scale[:, None, None, None]).to(dtype)
        conv.bias = nn.Parameter(shift.to(dtype))
        layer.norm = nn.Identity()
    return net
