"""The residual blocks (E7-E9)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..kernels import CONNECT
from ..kernels.connect import Connect
from ..kernels.packing import Spikes
from .layers import ConvNorm, ConvNormFire, ConvNormReLU, NeuronFactory, SpikeConvNorm
from .stream import Carry

EXPANSION = 4  # a bottleneck's output has this many times the channels of its 3x3 convolution


class Block(nn.Module):
    """A residual branch of two (basic) or three (bottleneck) layers, and a shortcut that fits.

    Shapes:  x [T, N, C, H, W] -> [T, N, C', H', W'], H' = H / stride; C' = channels, or 4 channels in a bottleneck;
             of `Spikes`, which a network's layers hand on in training, again `Spikes`
    The bottleneck's stride is on its 3x3 convolution (ResNet v1.5), as in the published networks.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, bottleneck: bool):
        super().__init__()
        self.out_channels = channels * EXPANSION if bottleneck else channels
        self.stride = stride
        self.changes_shape = stride != 1 or in_channels != self.out_channels
        self.shapes = (  # in, out, kernel size, stride of each convolution of the branch
            [(in_channels, channels, 1, 1), (channels, channels, 3, stride), (channels, self.out_channels, 1, 1)]
            if bottleneck
            else [(in_channels, channels, 3, stride), (channels, channels, 3, 1)]
        )
        self.shortcut_shape = (in_channels, self.out_channels, 1, stride)

    def spiking_layers(
        self, neuron: NeuronFactory, last_neuron: NeuronFactory | None, connect: Connect | None = None
    ) -> list[ConvNormFire]:
        """The branch as spiking layers; the last one may have neurons of its own, and connects."""
        *shapes, last = self.shapes
        layers = [ConvNormFire(*shape, neuron=neuron) for shape in shapes]
        return [*layers, ConvNormFire(*last, neuron=last_neuron or neuron, connect=connect)]

    def set_layers(self, layers: Sequence[nn.Module], shortcut: nn.Module | None = None) -> None:
        """Register the branch as conv1, conv2, (conv3) and the shortcut, in this order."""
        for number, layer in enumerate(layers, start=1):
            self.add_module(f"conv{number}", layer)
        self.shortcut = shortcut

    @property
    def branch(self) -> list[ConvNorm]:
        return [getattr(self, f"conv{number}") for number in range(1, len(self.shapes) + 1)]

    @property
    def last(self) -> ConvNorm:
        """The branch's last layer."""
        return self.branch[-1]

    def hidden(self, x: Tensor | Spikes, carry: Carry | None) -> Tensor | Spikes:
        """The branch up to its last layer."""
        for layer in self.branch[:-1]:
            x = layer(x, carry)
        return x

    def carried(self, x: Tensor | Spikes, carry: Carry | None) -> Tensor | Spikes:
        """What comes along the shortcut."""
        return x if self.shortcut is None else self.shortcut(x, carry)

    @torch.no_grad()
    def silence(self) -> None:
        """Zero init (E9): the last norm starts with weight 0 and bias 0."""
        self.last.norm.weight.zero_()
        self.last.norm.bias.zero_()


class SEWBlock(Block):
    """Spike-element-wise block: branch and shortcut meet after the neurons, O[t] = g(SN(F(S[t])), S[t]).

    neuron:       makes the neurons of each layer; last_neuron, those of the branch's last layer (None: the same)
    connect:      "ADD", "AND", "IAND" or a function of (a, s), a from the branch, s from the shortcut
    Source:       E6, E7; Fang et al. 2021, Eq. 9, Fig. 2(b)
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        *,
        neuron: NeuronFactory,
        last_neuron: NeuronFactory | None = None,
        connect: str | Connect = "ADD",
        bottleneck: bool = False,
    ):
        super().__init__(in_channels, channels, stride, bottleneck)
        self.connect = resolve_connect(connect)
        shortcut = ConvNormFire(*self.shortcut_shape, neuron=neuron) if self.changes_shape else None
        self.set_layers(self.spiking_layers(neuron, last_neuron, self.connect), shortcut)

    def forward(self, x: Tensor | Spikes, carry: Carry | None = None) -> Tensor | Spikes:
        hidden = self.hidden(x, carry)
        return self.last(hidden, carry, shortcut=self.carried(x, carry))

    @torch.no_grad()
    def silence(self) -> None:
        """Zero init (E9): the branch is constant, 0 (ADD, IAND) or 1 (AND), whichever leaves the shortcut unchanged."""
        super().silence()
        if branch_of_identity(self.connect) == 1:
            assert isinstance(self.last, ConvNormFire)
            self.last.norm.bias.fill_(self.last.neuron.firing_current())


class SpikingBlock(Block):
    """The usual spiking residual block: the shortcut passes through the neurons, O[t] = SN(F(S[t]) + S[t]).

    neuron, last_neuron:  as in SEWBlock; the last neurons are those behind the sum
    Source:               E8; Fang et al. 2021, Eq. 7, Fig. 2(a)
    Zero init makes it the identity for IF neurons at rest 0 with 0 < v_th <= 1 and hard reset only (Sec. 3.2); leaky ones start
    silent.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        *,
        neuron: NeuronFactory,
        last_neuron: NeuronFactory | None = None,
        bottleneck: bool = False,
    ):
        super().__init__(in_channels, channels, stride, bottleneck)
        shortcut = SpikeConvNorm(*self.shortcut_shape) if self.changes_shape else None
        self.set_layers(self.spiking_layers(neuron, last_neuron), shortcut)

    def forward(self, x: Tensor | Spikes, carry: Carry | None = None) -> Tensor | Spikes:
        hidden = self.hidden(x, carry)
        return self.last(hidden, carry, current=self.carried(x, carry))


class PlainBlock(Block):
    """The same layers without a shortcut: what degrades with depth."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        *,
        neuron: NeuronFactory,
        last_neuron: NeuronFactory | None = None,
        bottleneck: bool = False,
    ):
        super().__init__(in_channels, channels, stride, bottleneck)
        self.set_layers(self.spiking_layers(neuron, last_neuron))

    def forward(self, x: Tensor | Spikes, carry: Carry | None = None) -> Tensor | Spikes:
        return self.last(self.hidden(x, carry), carry)


class ReLUBlock(Block):
    """The block of the ReLU twin: relu(F(x) + x), x [N, C, H, W] or [T, N, C, H, W] (He et al. 2016)."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1, *, bottleneck: bool = False):
        super().__init__(in_channels, channels, stride, bottleneck)
        layers = [ConvNormReLU(*shape) for shape in self.shapes]
        self.set_layers(layers, ConvNorm(*self.shortcut_shape) if self.changes_shape else None)

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        hidden = self.hidden(x, carry)
        return self.last(hidden, carry, current=self.carried(x, carry))


def resolve_connect(connect: str | Connect) -> Connect:
    """The function that a word of CONNECT (upper or lower case) stands for; a function stands for itself."""
    if callable(connect):
        return connect
    if not isinstance(connect, str) or connect.upper() not in CONNECT:
        raise ValueError(f"connect={connect!r} is unknown; use {', '.join(CONNECT)} or a function of (a, s)")
    return CONNECT[connect.upper()]


def branch_of_identity(connect: Connect) -> int:
    """The constant output of the branch, 0 or 1, that leaves every spike of the shortcut unchanged under `connect`.

    Raises:  ValueError if neither does
    """
    s = torch.tensor([0.0, 1.0], device="cpu")  # also where networks are built without memory, on the meta device
    for a in (0, 1):
        if torch.equal(connect(torch.full_like(s, a), s), s):
            return a
    raise ValueError("zero_init: neither a silent nor an always firing branch makes this connect the identity")
