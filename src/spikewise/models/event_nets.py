"""Small networks for event cameras: 7B-Net, its Plain and Spiking twins, and the wide one for CIFAR10-DVS."""

from functools import partial
from typing import Any

from torch import Tensor, nn

from .layers import ConvNormFire, LayerOwner, NeuronFactory, build_pool, pool_framewise, run_block
from .network import Network
from .residual import Block
from .stream_state import NeuronStates


class EventStage(LayerOwner):
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
        self.pool = build_pool(pool, 2, 2, 0, neuron)
        for made in blocks:
            made.last_layer.emit_planes = False  # the pooling behind it does

    def segments(self) -> list[Any]:
        """Each block with the pooling behind it."""
        return [partial(self.forward_block, block) for block in self.blocks]

    def forward_block(self, block: nn.Module, x: Tensor, states: NeuronStates | None = None) -> Tensor:
        return pool_framewise(self.pool, run_block(block, x, states))


class EventNet(Network):
    """Stages of residual blocks with pooling in between, average over space and time, one linear layer.

    Shapes:  frames [T, N, C, H, W] (C = 2: counts of the two polarities) or, of other channels than 2, images [N, C, H, W] read
             T times -> logits [N, num_classes]
    stages:  (channels, number of blocks) of each stage; k blocks in all need frames of at least 2^k pixels
    stem:    kernel of the first convolution, "1x1" (the published code) or "3x3" (the paper's text)
    pool:    pooling after each block, "max" (as published) or "avg"
    Source:  Fang et al. 2021, sec. 4.2. With 128 x 128 pixels and 7 blocks nothing is left to average over space.
    """

    head_name = "out"

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
        self.add_tail(block, neuron)
        self.num_features = channels
        self.out = nn.Linear(channels, num_classes)
        self.min_image_size = 2 ** sum(count for _, count in stages)
        self.assign_state_keys()

    @property
    def stages(self) -> list[EventStage]:
        return [getattr(self, f"stage{number}") for number in range(1, self.num_stages + 1)]

    def check_input(self, x: Tensor, dims: tuple[int, ...]) -> None:
        super().check_input(x, dims)
        if x.dim() == 4 and 5 in dims and self.in_channels == 2:  # polarities: nobody shows still images of them
            raise ValueError(
                f"given {list(x.shape)}, which may be one recording or a batch of still images: "
                "give a recording [T, C, H, W] as x[:, None], images as x.expand(T, *x.shape)"
            )

    def forward_features(self, x: Tensor, states: NeuronStates | None, taken: dict[int, Tensor]) -> Tensor:
        repeat_steps = self.T if x.dim() == 4 else 0
        for number, stage in enumerate(self.stages, start=1):
            x = stage.widen(x, states=states, repeat_steps=repeat_steps)
            x = self.forward_stage(stage.segments(), x, states)
            repeat_steps = 0
            if number in taken:
                taken[number] = x
        return self.average_over_space(x, states)
