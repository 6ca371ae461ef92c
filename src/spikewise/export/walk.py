"""The way of a frame through a network, layer by layer: the same for every form in which a network is written."""

from typing import Any, Protocol, TypeVar

from torch import nn

from ..models.calls import is_watched
from ..models.event_nets import EventNet
from ..models.layers import Fire
from ..models.network import Network
from ..models.residual import Block
from ..models.resnet import ResNet

Value = TypeVar("Value")


class Builder(Protocol[Value]):
    """Writes the parts of a network; a value stands for what flows between two of them. Names are for messages."""

    def layer(self, layer: Any, x: Value, name: str) -> Value:
        """A convolution with what fires behind it."""

    def block(self, block: Any, x: Value, name: str) -> Value:
        """A residual block."""

    def pool(self, pool: Any, x: Value, name: str) -> Value:
        """Pooling."""

    def fire(self, neuron: Any, x: Value, name: str) -> Value:
        """Neurons."""


def walk(net: Network, build: Builder[Value], x: Value) -> Value:
    """What `build` makes of the last stage's output, given the input; the average over space and the head lie behind it."""
    if isinstance(net, ResNet):
        x = build.pool(net.pool, build.layer(net.stem, x, "stem"), "pool")
        for number, blocks in enumerate(net.stages, start=1):
            for place, block in enumerate(blocks):
                x = build.block(block, x, f"layer{number}.{place}")
    else:
        assert isinstance(net, EventNet), "require_known_layout saw it"
        for number, stage in enumerate(net.stages, start=1):
            x = build.layer(stage.widen, x, f"stage{number}.widen")
            for place, block in enumerate(stage.blocks):
                x = build.pool(stage.pool, build.block(block, x, f"stage{number}.blocks.{place}"), f"stage{number}.pool")
    return x if net.tail is None else build.fire(net.tail.neuron, x, "tail")


def require_known_layout(net: Network, who: str) -> None:
    """Refuse a network whose way is not known, or that has other parts on it.

    who:     knows only these networks, as messages call it
    Raises:  ValueError
    """
    if type(net) not in (ResNet, EventNet) or not net.spiking:
        raise ValueError(f"{who} knows spiking ResNets and event networks, not {net.spec.get('name', type(net).__name__)}")
    for name, layer in net.spiking_layers.items():
        if type(layer.spikes) is not nn.Identity:
            raise ValueError(f"{name}.spikes: {who} knows nothing behind the neurons, no {type(layer.spikes).__name__}")
    for number, stage in enumerate(net.stages, start=1):
        for place, block in enumerate(stage.blocks if isinstance(net, EventNet) else stage):
            if not isinstance(block, Block):
                where = f"block {place} of stage {number}"
                raise ValueError(f"{where}: {who} knows residual blocks, no {type(block).__name__} in the place of one")
    if net.tail is not None and type(net.tail) is not Fire:
        raise ValueError(f"tail: {who} knows neurons there, no {type(net.tail).__name__}")


def require_unwatched(net: Network) -> None:
    """Refuse a network on whose parts hooks hang, as they may change what it computes.

    Raises:  ValueError
    """
    for name, module in net.named_modules():
        if is_watched(module):
            raise ValueError(f"{name or 'the network'}: hooks hang on it, which a file cannot hold; take them off first")
