"""Residual networks for images: 18 to 152 layers of the ImageNet kind, 20 to 110 of the CIFAR kind, and their ReLU twins."""

from typing import Any

from torch import Tensor, nn

from .layers import ConvNorm, ConvNormFire, ConvNormReLU, MaxPool, NeuronFactory, SpikingLayer, build_pool, pool_framewise
from .network import Network
from .residual import Block
from .stream_state import NeuronStates

IMAGENET_WIDTHS = (64, 128, 256, 512)
IMAGENET_DEPTHS: dict[int, tuple[int, ...]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    104: (3, 8, 32, 8),
    152: (3, 8, 36, 3),
}
BOTTLENECK_DEPTHS = {50, 101, 152}

CIFAR_WIDTHS = (16, 32, 64)
CIFAR_DEPTHS: dict[int, tuple[int, ...]] = {depth: ((depth - 2) // 6,) * 3 for depth in (20, 32, 44, 56, 110)}


class ResNet(Network):
    """Stem, stages of residual blocks, average over space and time, one linear layer.

    Shapes:      images [N, C, H, W], read T times (their stem's convolution and norm run once), or frames [T, N, C, H, W]
                 -> logits [N, num_classes]
    block:       a block class, with what it needs in `block_options`; blocks that meet as currents have a stem without neurons,
                 whose current is the same at every step of a still image, and a tail of neurons before the average
    num_blocks:  blocks in each stage; widths, the channels of each; every stage but the first halves the image
    stem:        "7x7": 7x7 convolution of stride 2, then pooling of stride 2; "3x3": 3x3 convolution, no pooling
    pool:        the stem's pooling, "max" (as published) or "avg"; None: the first block halves the image in its place
    neuron:      makes the stem's neurons; None for a ReLU network
    Source:      He et al. 2016 (v1.5: a bottleneck's stride is on its 3x3); Fang et al. 2021, sec. 4.1
    """

    def __init__(
        self,
        block: type[Block],
        num_blocks: tuple[int, ...],
        widths: tuple[int, ...],
        *,
        num_classes: int,
        T: int,
        in_channels: int = 3,
        stem: str = "7x7",
        pool: str | None = "max",
        neuron: NeuronFactory | None,
        block_options: dict[str, Any],
    ):
        super().__init__(in_channels=in_channels, num_classes=num_classes, T=T, spiking=neuron is not None)
        kernel_size, stride = {"7x7": (7, 2), "3x3": (3, 1)}[stem]
        shape = (in_channels, widths[0], kernel_size, stride)
        carries_currents = block.meets == "currents"
        if neuron is None or carries_currents:
            self.stem: ConvNorm = (ConvNorm if carries_currents else ConvNormReLU)(*shape)
        else:
            self.stem = ConvNormFire(*shape, neuron=neuron)
        block.adapt_stem(self.stem)
        self.pool = build_pool(pool, 3, 2, 1, neuron) if stem == "7x7" and pool is not None else nn.Identity()
        first_stride = 2 if stem == "7x7" and pool is None else 1
        channels = widths[0]
        self.num_stages = len(widths)
        for number, (width, count) in enumerate(zip(widths, num_blocks, strict=True), start=1):
            stage, stride = nn.ModuleList(), 2 if number > 1 else first_stride
            for position in range(count):
                next_block = block(channels, width, stride if position == 0 else 1, **block_options)
                stage.append(next_block)
                channels = next_block.out_channels
            self.add_module(f"layer{number}", stage)
        self.add_tail(block, neuron)
        self.num_features = channels
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.assign_state_keys()

    @property
    def stages(self) -> list[nn.ModuleList]:
        return [getattr(self, f"layer{number}") for number in range(1, self.num_stages + 1)]

    def forward_stem(self, x: Tensor, states: NeuronStates | None) -> Tensor:
        repeat_steps = self.T if x.dim() == 4 and self.spiking else 0
        if not isinstance(self.stem, SpikingLayer):
            out = pool_framewise(self.pool, self.stem(x, states=states))
            return out.expand(repeat_steps, *out.shape) if repeat_steps else out
        fused_pool = self.pool if isinstance(self.pool, MaxPool) and type(self.pool).forward is MaxPool.forward else None
        x = self.stem(x, states=states, repeat_steps=repeat_steps, pool=fused_pool)
        return x if fused_pool is not None else pool_framewise(self.pool, x)
