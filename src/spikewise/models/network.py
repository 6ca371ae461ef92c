"""What all networks share: the check of the input, the head, and a stream of single frames."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .checkpointing import Checkpointing, checkpointed, require_checkpointing
from .layers import ConvNorm, ConvNormFire
from .residual import Block
from .stream import NeuronStates, StreamState


class Network(nn.Module):
    """Images or frames in, class scores out. A forward pass starts from rest and leaves nothing behind.

    Shapes:  still images [N, C, H, W], read T times, or frames [T, N, C, H, W] of any T -> logits [N, num_classes]
    Raises:  ValueError that says what was given and what fits
    """

    def __init__(self, *, in_channels: int, num_classes: int, T: int, spiking: bool):
        super().__init__()
        require_positive(in_channels=in_channels, num_classes=num_classes, T=T)
        self.in_channels, self.num_classes, self.T, self.spiking = in_channels, num_classes, T, spiking
        self.spec: dict[str, Any] = {}  # what build_model was given: enough to build the network again
        self.min_image_size = 1  # pixels
        self.checkpointing = "none"

    def features(self, x: Tensor, states: NeuronStates | None) -> Tensor:
        """Features of each step: [T, N, F], or [N, F] where a ReLU network sees a still image."""
        raise NotImplementedError(f"{type(self).__name__} must say how it makes features of frames")

    @property
    def head(self) -> nn.Linear:
        raise NotImplementedError(f"{type(self).__name__} must name its last layer")

    @property
    def blocks(self) -> dict[str, Block]:
        """The residual blocks by name, in the order of depth."""
        return {name: module for name, module in self.named_modules() if isinstance(module, Block)}

    @property
    def conv_layers(self) -> dict[str, ConvNorm]:
        """Convolutions with their norms, those of shortcuts included, by name."""
        return {name: module for name, module in self.named_modules() if isinstance(module, ConvNorm)}

    @property
    def spiking_layers(self) -> dict[str, ConvNormFire]:
        """The spiking layers by name."""
        return {name: module for name, module in self.named_modules() if isinstance(module, ConvNormFire)}

    @torch.no_grad()
    def zero_init_(self) -> None:
        """Zero init (E9) of every block."""
        for block in self.blocks.values():
            block.zero_init_()

    @property
    def packing(self) -> bool:
        """Whether training keeps spikes as bit planes, where the kernels can."""
        return all(layer.packing for layer in self.spiking_layers.values())

    @packing.setter
    def packing(self, on: bool) -> None:
        for layer in self.spiking_layers.values():
            layer.packing = on

    @property
    def checkpointing(self) -> Checkpointing:
        """What backward computes again: nothing, each block, or each stage."""
        return self._checkpointing

    @checkpointing.setter
    def checkpointing(self, word: Checkpointing) -> None:
        require_checkpointing(word)
        self._checkpointing: Checkpointing = word

    def forward_stage(self, segments: Iterable[Any], x: Tensor, states: NeuronStates | None) -> Tensor:
        """The segments of a stage, functions of (x, states), one after another; under checkpointing as it says."""
        recompute = self.checkpointing if self.training and torch.is_grad_enabled() and states is None else "none"

        def forward_segments(x: Tensor) -> Tensor:
            for segment in segments:
                x = checkpointed(partial(segment, states=states), x) if recompute == "block" else segment(x, states=states)
            return x

        return checkpointed(forward_segments, x) if recompute == "stage" else forward_segments(x)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, num_classes] of still images [N, C, H, W] or frames [T, N, C, H, W]."""
        self.check_input(x, dims=(4, 5))
        features = self.features(x, None)
        if features.dim() == 3:
            features = sum_over_time(features) / len(features)
        return self.head(features)

    def step(self, frame: Tensor, state: StreamState | None = None) -> tuple[Tensor, StreamState]:
        """See one more frame of a stream: the logits after t frames are those of `net(frames[:t])`.

        Shapes:  frame [N, C, H, W] -> logits [N, num_classes]
        state:   what the last call returned; None at the first frame. It is not changed.
        Raises:  RuntimeError in training mode, where batch norm would see one frame instead of the sequence;
                 ValueError for a frame or a state that does not fit
        """
        if self.training:
            raise RuntimeError("net.step streams in evaluation mode; call net.eval() first")
        self.check_input(frame, dims=(4,))
        if state is not None and not isinstance(state, StreamState):
            raise ValueError(
                f"given a state of type {type(state).__name__}; pass what the last call returned, or None at first"
            )
        if state is not None and len(state.feature_sum) != len(frame):
            raise ValueError(f"the state is of {len(state.feature_sum)} streams, the frame of {len(frame)}; pass them alike")
        self.assign_state_keys()
        states = NeuronStates(None if state is None else state.membranes)
        features = self.features(frame[None], states)[0]
        feature_sum, num_steps = (features, 1) if state is None else (state.feature_sum + features, state.num_steps + 1)
        membranes = states.collected()
        if state is not None and set(state.membranes) != set(membranes):
            raise ValueError("the state has membranes this network does not have: it comes from another network")
        if forgotten := sorted(set(self.spiking_layers) - set(membranes)):
            raise ValueError(f"{forgotten[0]} was not given the stream's `states`: blocks and hooks must hand them on")
        return self.head(feature_sum / num_steps), StreamState(membranes, feature_sum, num_steps)

    def assign_state_keys(self) -> None:
        """Tell each spiking layer the name of its neurons' state; for every frame anew, as layers may be the user's."""
        for name, layer in self.spiking_layers.items():
            layer.state_key = name

    def check_input(self, x: Tensor, dims: tuple[int, ...]) -> None:
        """Refuse an input that does not fit, in words."""
        images, frames = f"[N, {self.in_channels}, H, W]", f"[T, N, {self.in_channels}, H, W]"
        fits = f"images {images} or frames {frames}" if 5 in dims else f"one frame {images}"
        if not isinstance(x, Tensor):
            raise ValueError(f"given {type(x).__name__}; this network takes a tensor: {fits}")
        if x.dim() not in dims or x.shape[-3] != self.in_channels:
            hint = ""
            if x.dim() == 5 and x.shape[-3] != self.in_channels and x.shape[1] == self.in_channels:
                hint = "; channels come after batch: x.permute(...)"
            raise ValueError(f"given {list(x.shape)}; this network takes {fits}{hint}")
        if x.dim() == 5 and len(x) == 0:
            raise ValueError(f"given {list(x.shape)}, a sequence of no frames; T must be at least 1")
        if min(x.shape[-2:]) < self.min_image_size:
            least = self.min_image_size
            raise ValueError(
                f"given {list(x.shape)}; this network needs at least {least} x {least} pixels, as each block halves them: "
                "pass a smaller num_blocks (--model.num-blocks)"
            )
        dtype = self.head.weight.dtype
        if not x.is_floating_point():
            raise ValueError(f"given {x.dtype}; this network takes {dtype}: convert with x.float() and scale as in training")
        if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
            raise ValueError(f"given {x.dtype}, but the weights are {dtype}; use x.to({dtype}), net.to({x.dtype}) or autocast")


def sum_over_time(features: Tensor) -> Tensor:
    """Sum [T, N, F] -> [N, F] in the order of time, so that a stream's running sum is the same number to the last bit."""
    total = features[0]
    for step in features[1:]:
        total = total + step
    return total


def require_positive(**values: int) -> None:
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name}={value!r} must be a whole number of at least 1")
