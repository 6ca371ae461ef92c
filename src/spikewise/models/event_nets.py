"""Small networks for event cameras: 7B-Net, its Plain and Spiking twins, and the wide one for CIFAR10-DVS."""

from functools import partial
from typing import Any

from torch import Tensor, nn

from ..kernels.packing import values_of
from .layers import ConvNormFire, NeuronFactory, make_pool, pooled_over_time
from .network import Network
from .residual import Block
from .stream import Carry


class EventStage(nn.Module):
    """A convolution to the stage's width, then blocks, each followed by a pooling that halves the frame."""

    def __init__(
        self,
        block: type[Block],
        in_channels: int,
        channels: int,
        num_blocks: int,
        *,
        kernel_size: int,
        pool: str,
        neuron: NeuronFactory,
        block_options: dict[str, Any],
    ):
        super().__init__()
        self.widen = ConvNormFire(in_channels, channels, kernel_size, neuron=neuron)
        blocks = [block(channels, channels, **block_options) for _ in range(num_blocks)]
        self.blocks = nn.ModuleList(blocks)
        self.pool = make_pool(pool, 2, 2, 0, neuron)
        for made in blocks:
            assert isinstance(made.last, ConvNormFire), "spiking blocks end in spiking layers"
            made.last.emits = False

    def segments(self) -> list[Any]:
        """Each block with the pooling behind it."""
        return [partial(self.block_and_pool, block) for block in self.blocks]

    def block_and_pool(self, block: nn.Module, x: Any, carry: Carry | None) -> Any:
        return pooled_over_time(self.pool, block(x, carry))


class EventNet(Network):
    """Stages of residual blocks with pooling in between, average over space and time, one linear layer.

    Shapes:  frames [T, N, C, H, W] (C = 2: counts of the two polarities), or images [N, C, H, W] read T times
             -> logits [N, num_classes]
    stages:  (channels, number of blocks) of each stage; k blocks in all need frames of at least 2^k pixels
    stem:    kernel of the first convolution, "1x1" (the published code) or "3x3" (the paper's text)
    pool:    pooling after each block, "max" (as published) or "avg"
    Source:  Fang et al. 2021, sec. 4.2. With 128 x 128 pixels and 7 blocks nothing is left to average over space.
    """

    def __init__(
        self,
        block: type[Block],
        stages: tuple[tuple[int, int], ...],
        *,
        num_classes: int,
        T: int,
        in_channels: int = 2,
        stem: str = "1x1",
        pool: str = "max",
        neuron: NeuronFactory,
        block_options: dict[str, Any],
    ):
        super().__init__(in_channels=in_channels, num_classes=num_classes, T=T, spiking=True)
        kernel_size = {"1x1": 1, "3x3": 3}[stem]
        self.num_stages = len(stages)
        channels = in_channels
        for number, (width, count) in enumerate(stages, start=1):
            stage = EventStage(
                block,
                channels,
                width,
                count,
                kernel_size=kernel_size if number == 1 else 1,
                pool=pool,
                neuron=neuron,
                block_options=block_options,
            )
            self.add_module(f"stage{number}", stage)
            channels = width
        self.out = nn.Linear(channels, num_classes)
        self.smallest_image = 2 ** sum(count for _, count in stages)
        self.name_layers()

    @property
    def stages(self) -> list[EventStage]:
        return [getattr(self, f"stage{number}") for number in range(1, self.num_stages + 1)]

    @property
    def head(self) -> nn.Linear:
        return self.out

    def features(self, x: Any, carry: Carry | None) -> Tensor:
        repeat = self.T if x.dim() == 4 else 0
        for stage in self.stages:
            x = stage.widen(x, carry, repeat=repeat, pack=self.packs)
            x = self.run_stage(stage.segments(), x, carry)
            repeat = 0
        return values_of(x).mean((-2, -1))
