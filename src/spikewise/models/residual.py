"""The residual blocks (E7-E9). Public: what `__all__` names."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..kernels.connect import ConnectFn, resolve_connect
from ..neurons import Neuron
from .layers import ConvNorm, ConvNormFire, ConvNormReLU, LayerOwner, NeuronFactory, SpikeConvNorm, SpikingLayer
from .stream_state import NeuronStates
from .threshold_norm import ThresholdNorm2d

__all__ = [
    "BOTTLENECK_EXPANSION",
    "Block",
    "PlainBlock",
    "RBABlock",
    "ReLUBlock",
    "SEWBlock",
    "SpikingBlock",
    "ThresholdNormBlock",
]

ONE_OF_TWO = 2**-0.5  # alpha of td-BN for each of two currents that are added: their sum then varies as one
BOTTLENECK_EXPANSION = 4  # a bottleneck's output has this many times the channels of its 3x3 convolution


class Block(LayerOwner):
    """A residual branch of two (basic) or three (bottleneck) layers, and a shortcut that fits.

    What a kind of block says of itself, to networks and to whoever analyses them:
    meets:              where branch and shortcut meet: "after" the last neurons, "before" them, as "currents" without neurons
                        behind, or None, without a shortcut; "": the block does not say. Networks whose blocks meet as
                        currents have neurons before the head, and those for images none in the stem
    has_projection:     whether the block changes the shape, so that the shortcut is a convolution
    branch:             the layers of the residual branch, as `register_layers` was given them. A block that registers none
                        may say its `last_neurons` and `last_norm` itself; what neither says is not analysed

    Shapes:  x [T, N, C, H, W] -> [T, N, C', H', W'], H' = H / stride; C' = channels, or 4 channels in a bottleneck
    stride:  1, or more to shrink the image
    The bottleneck's stride is on its 3x3 convolution (ResNet v1.5), as in the published networks.
    """

    meets: str | None = ""

    def __init__(self, in_channels: int, channels: int, stride: int, bottleneck: bool):
        super().__init__()
        self.out_channels = channels * BOTTLENECK_EXPANSION if bottleneck else channels
        self.stride = stride
        self.has_projection = stride != 1 or in_channels != self.out_channels
        self.conv_shapes = (  # in, out, kernel size, stride of each convolution of the branch
            [(in_channels, channels, 1, 1), (channels, channels, 3, stride), (channels, self.out_channels, 1, 1)]
            if bottleneck
            else [(in_channels, channels, 3, stride), (channels, channels, 3, 1)]
        )
        self.shortcut_shape = (in_channels, self.out_channels, 1, stride)
        self.num_layers = 0  # of the branch

    def build_spiking_branch(
        self, neuron: NeuronFactory, last_neuron: NeuronFactory | None, connect: ConnectFn | None = None
    ) -> list[ConvNormFire]:
        """The branch as spiking layers; the last one may have neurons of its own, and connects."""
        *shapes, last = self.conv_shapes
        layers = [ConvNormFire(*shape, neuron=neuron) for shape in shapes]
        return [*layers, ConvNormFire(*last, neuron=last_neuron or neuron, connect=connect)]

    def register_layers(self, layers: Sequence[nn.Module], shortcut: nn.Module | None = None) -> None:
        """Register the branch as conv1, conv2, (conv3) and the shortcut, in this order."""
        self.num_layers = len(layers)
        for number, layer in enumerate(layers, start=1):
            self.add_module(f"conv{number}", layer)
        self.shortcut = shortcut

    @classmethod
    def adapt_stem(cls, stem: Any) -> None:
        """Change what a network of such blocks has for a stem; nothing, of most."""

    @property
    def branch(self) -> list[Any]:
        """The layers of the residual branch."""
        return [getattr(self, f"conv{number}") for number in range(1, self.num_layers + 1)]

    @property
    def last_layer(self) -> Any:
        """The branch's last layer; None, where none was registered."""
        return self.branch[-1] if self.num_layers else None

    @property
    def last_neurons(self) -> SpikingLayer | Neuron | None:
        """The branch's last neurons, or their layer, whose spikes are A; None: not known."""
        return next((layer for layer in reversed(self.branch) if isinstance(layer, SpikingLayer)), None)

    @property
    def last_norm(self) -> nn.Module | None:
        """The branch's last norm, which starts at 0 under zero init; None: not known."""
        return getattr(self.last_layer, "norm", None)

    @property
    def connect(self) -> ConnectFn | None:
        """G of E6; None where branch and shortcut do not meet after the neurons."""
        return getattr(self.last_layer, "connect", None)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "connect" and self.num_layers:  # may be a module, which no property's setter would see
            if self.meets != "after":
                raise ValueError(f"{type(self).__name__} connects nothing after its neurons; connect is for SEW blocks")
            self.last_layer.connect = value
        else:
            super().__setattr__(name, value)

    @property
    def identity_branch(self) -> int | None:
        """The constant branch, 0 or 1, with which the block is the identity on spikes; None: there is none."""
        return None

    def forward_hidden(self, x: Tensor, states: NeuronStates | None) -> Tensor:
        """The branch up to its last layer."""
        for layer in self.branch[:-1]:
            x = layer(x, states=states)
        return x

    def forward_shortcut(self, x: Tensor, states: NeuronStates | None) -> Tensor:
        """What comes along the shortcut."""
        return x if self.shortcut is None else self.shortcut(x, states=states)

    @torch.no_grad()
    def zero_init_(self) -> None:
        """Zero init (E9): the last norm starts with weight 0 and bias 0."""
        if not isinstance(self.last_norm, nn.BatchNorm2d):
            raise ValueError(f"zero_init: {type(self).__name__} does not say its last_norm; let it say so, or leave it out")
        self.last_norm.weight.zero_()
        self.last_norm.bias.zero_()


class SEWBlock(Block):
    """Spike-element-wise block: branch and shortcut meet after the neurons, O[t] = g(SN(F(S[t])), S[t]).

    neuron:       makes the neurons of each layer (a name in NEURONS, a class or function); last_neuron, those of the branch's
                  last layer (None: the same)
    connect:      "ADD", "AND", "IAND" or a function of (a, s), a from the branch, s from the shortcut
    bottleneck:   three convolutions, the last one to 4 channels, in place of two
    Raises:       ValueError for an unknown name
    Source:       E6, E7; Fang et al. 2021, Eq. 9, Fig. 2(b)
    """

    meets = "after"

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        *,
        neuron: NeuronFactory,
        last_neuron: NeuronFactory | None = None,
        connect: str | ConnectFn = "ADD",
        bottleneck: bool = False,
    ):
        super().__init__(in_channels, channels, stride, bottleneck)
        shortcut = ConvNormFire(*self.shortcut_shape, neuron=neuron) if self.has_projection else None
        self.register_layers(self.build_spiking_branch(neuron, last_neuron, resolve_connect(connect)), shortcut)

    def forward(self, x: Tensor, states: NeuronStates | None = None) -> Tensor:
        hidden = self.forward_hidden(x, states)
        return self.last_layer(hidden, states=states, shortcut=self.forward_shortcut(x, states))

    @property
    def identity_branch(self) -> int | None:
        assert self.connect is not None, "a SEW block connects"
        return identity_branch_value(self.connect)

    @torch.no_grad()
    def zero_init_(self) -> None:
        """Zero init (E9): the branch is constant, 0 (ADD, IAND) or 1 (AND), whichever leaves the shortcut unchanged."""
        super().zero_init_()
        if require_identity(self.identity_branch) == 1:
            self.last_layer.norm.bias.fill_(self.last_layer.neuron.min_always_firing_current())


class SpikingBlock(Block):
    """The usual spiking residual block: the shortcut passes through the neurons, O[t] = SN(F(S[t]) + S[t]).

    neuron, last_neuron:  as in SEWBlock; the last neurons are those behind the sum
    Source:               E8; Fang et al. 2021, Eq. 7, Fig. 2(a)
    Zero init makes it the identity for IF neurons at rest 0 with 0 < v_th <= 1 and hard reset only (Sec. 3.2); leaky ones start
    silent.
    """

    meets = "before"

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
        shortcut = SpikeConvNorm(*self.shortcut_shape) if self.has_projection else None
        self.register_layers(self.build_spiking_branch(neuron, last_neuron), shortcut)

    def forward(self, x: Tensor, states: NeuronStates | None = None) -> Tensor:
        hidden = self.forward_hidden(x, states)
        return self.last_layer(hidden, states=states, current=self.forward_shortcut(x, states))


class ThresholdNormBlock(SpikingBlock):
    """A Spiking block with td-BN: alpha is 1 within the branch, 1 / sqrt(2) in its last norm and in the shortcut's.

    A shortcut that changes nothing has no norm, as in the published code.
    Source:  E8, E11; Zheng et al. 2021
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1, *, neuron: NeuronFactory, **options: Any):
        super().__init__(in_channels, channels, stride, neuron=neuron, **options)
        for layer in self.branch[:-1]:
            scale_norm(layer, layer.neuron.v_th)
        scale_norm(self.last_layer, self.last_layer.neuron.v_th * ONE_OF_TWO)
        if isinstance(self.shortcut, ConvNorm):
            scale_norm(self.shortcut, self.last_layer.neuron.v_th * ONE_OF_TWO)

    @classmethod
    def adapt_stem(cls, stem: Any) -> None:
        scale_norm(stem, stem.neuron.v_th)


class PlainBlock(Block):
    """The same layers without a shortcut: what degrades with depth."""

    meets = None

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
        self.register_layers(self.build_spiking_branch(neuron, last_neuron))

    def forward(self, x: Tensor, states: NeuronStates | None = None) -> Tensor:
        return self.last_layer(self.forward_hidden(x, states), states=states)


class ReLUBlock(Block):
    """The block of the ReLU twin: relu(F(x) + x), x [N, C, H, W] or [T, N, C, H, W] (He et al. 2016)."""

    meets = "before"

    def __init__(self, in_channels: int, channels: int, stride: int = 1, *, bottleneck: bool = False):
        super().__init__(in_channels, channels, stride, bottleneck)
        layers = [ConvNormReLU(*shape) for shape in self.conv_shapes]
        self.register_layers(layers, ConvNorm(*self.shortcut_shape) if self.has_projection else None)

    def forward(self, x: Tensor, states: NeuronStates | None = None) -> Tensor:
        hidden = self.forward_hidden(x, states)
        return self.last_layer(hidden, states=states, current=self.forward_shortcut(x, states))


class RBABlock(ReLUBlock):
    """ReLU before addition: relu(F(x)) + x, the block of ReLU networks that SEW blocks resemble (E12).

    Its output is never below its input, so that outputs grow with depth: shown to be seen, not to be used.
    Source:  Fang et al. 2021, Eq. 10; He et al. 2016, Identity Mappings in Deep Residual Networks
    """

    meets = "after"

    def __init__(self, in_channels: int, channels: int, stride: int = 1, *, bottleneck: bool = False):
        super().__init__(in_channels, channels, stride, bottleneck=bottleneck)
        if self.has_projection:
            self.shortcut = ConvNormReLU(*self.shortcut_shape)

    def forward(self, x: Tensor, states: NeuronStates | None = None) -> Tensor:
        return self.last_layer(self.forward_hidden(x, states), states=states) + self.forward_shortcut(x, states)


def scale_norm(layer: ConvNorm, scale: float) -> None:
    """Put td-BN in the place of a layer's norm."""
    layer.norm = ThresholdNorm2d(layer.norm.num_features, scale)


def identity_branch_value(connect: ConnectFn) -> int | None:
    """The constant branch, 0 or 1, that leaves every spike of the shortcut unchanged under `connect`, if there is one."""
    s = torch.tensor([0.0, 1.0], device="cpu")  # also where networks are built without memory, on the meta device
    return next((a for a in (0, 1) if torch.equal(connect(torch.full_like(s, a), s), s)), None)


def require_identity(branch: int | None) -> int:
    if branch is None:
        raise ValueError("zero_init: neither a silent nor an always firing branch makes this connect the identity")
    return branch
