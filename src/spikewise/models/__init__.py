"""Networks: residual blocks of spiking neurons, and what is built from them."""

from .blocks import CONNECT, PlainBlock, ReLUBlock, SEWBlock, SpikingBlock
from .network import Network
from .stream import State
from .zoo import MODELS, build_model

__all__ = [
    "CONNECT",
    "MODELS",
    "Network",
    "PlainBlock",
    "ReLUBlock",
    "SEWBlock",
    "SpikingBlock",
    "State",
    "build_model",
]
