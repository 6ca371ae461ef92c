"""Networks: residual blocks of spiking neurons, and what is built from them."""

from ..kernels import CONNECT
from .blocks import PlainBlock, ReLUBlock, SEWBlock, SpikingBlock
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
