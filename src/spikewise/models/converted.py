"""Spiking twins of ReLU networks, as conversion makes them (E18): norms folded away, shortcuts scaled. Public: `__all__`."""

from typing import Any

import torch
from torch import Tensor, nn

from .layers import ConvNorm, NeuronFactory
from .residual import SpikingBlock
from .stream_state import NeuronStates

__all__ = ["ConvertedBlock", "ScaledShortcut"]


class ScaledShortcut(nn.Module):
    """An identity shortcut whose spikes count `factor` thresholds.

    Shapes:  x [T, N, C, H, W] -> the same
    factor:  a number above 0, what a spike of the block's input stands for, in units of what one of its output stands for
    Source:  E18; Hu, Tang, Wang, Pan, Spiking Deep Residual Network, 2018 (arXiv 1805.01352)
    """

    factor: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("factor", torch.ones(()))

    def forward(self, x: Tensor, states: NeuronStates | None = None) -> Tensor:
        return x * self.factor.to(x.dtype)


class ConvertedBlock(SpikingBlock):
    """A Spiking block without norms, O[t] = SN(F(S[t]) + factor S[t]): the spiking twin of relu(F(x) + x).

    Convolutions have a bias. A shortcut that changes shape is a convolution, too, in place of the factor.
    Source:  E8, E18
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1, *, neuron: NeuronFactory, **options: Any):
        super().__init__(in_channels, channels, stride, neuron=neuron, **options)
        for layer in self.branch:
            without_norm(layer)
        if isinstance(self.shortcut, ConvNorm):
            without_norm(self.shortcut)
        else:
            self.shortcut = ScaledShortcut()

    @classmethod
    def adapt_stem(cls, stem: Any) -> None:
        without_norm(stem)


def without_norm(layer: ConvNorm) -> None:
    """Leave a layer's norm out, and give its convolution a bias in its place."""
    layer.norm, layer.conv.bias = nn.Identity(), nn.Parameter(torch.zeros(layer.conv.out_channels))
