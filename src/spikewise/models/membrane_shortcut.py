"""The membrane-shortcut block of MS-ResNet (E10): branch and shortcut meet as currents. Public: `MSBlock`."""

from torch import Tensor

from .layers import ConvNorm, ConvNormFire, Fire, NeuronFactory, SpikeConvNorm
from .residual import Block
from .stream_state import NeuronStates

__all__ = ["MSBlock"]


class MSBlock(Block):
    """Membrane-shortcut block: neurons come before each convolution, none behind the sum, O[t] = F(SN(S[t])) + S[t].

    neuron:       makes the neurons of each layer; last_neuron, those before the branch's last convolution (None: the same)
    Shapes:       currents x [T, N, C, H, W], in units of the threshold -> currents [T, N, C', H', W']
    Source:       E10; Hu, Deng, Wu, Yao, Li, Advancing Spiking Neural Networks towards Deep Residual Learning, 2021
                  (arXiv 2112.08954)

    Norm and neurons in the middle of the branch are one layer, as one operator computes both.
    """

    meets = "currents"

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
        *shapes, last_shape = self.conv_shapes
        neurons = [neuron] * (len(shapes) - 1) + [last_neuron or neuron]
        self.fire = Fire(neuron)
        layers = [ConvNormFire(*shape, neuron=make) for shape, make in zip(shapes, neurons, strict=True)]
        shortcut = ConvNorm(*self.shortcut_shape) if self.has_projection else None
        self.register_layers([*layers, SpikeConvNorm(*last_shape)], shortcut)

    def forward(self, x: Tensor, states: NeuronStates | None = None) -> Tensor:
        hidden = self.forward_hidden(self.fire(x, states=states), states)
        return self.last_layer(hidden, states=states) + self.forward_shortcut(x, states)
