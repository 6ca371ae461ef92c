"""Networks: residual blocks of spiking neurons, and what is built from them."""

from ..kernels import CONNECT
from .network import Network
from .registry import MODELS, build_model
from .residual import PlainBlock, ReLUBlock, SEWBlock, SpikingBlock
from .stream import StreamState

__all__ = [
    "CONNECT",
    "MODELS",
    "Network",
    "PlainBlock",
    "ReLUBlock",
    "SEWBlock",
    "SpikingBlock",
    "StreamState",
    "build_model",
]
