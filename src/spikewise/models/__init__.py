"""Networks: residual blocks of spiking neurons, and what is built from them.

Public: what `__all__` names here, the modules `layers`, `residual` and `membrane_shortcut` by their own `__all__`, and
`weights.load_pretrained`, `weights.save_pretrained`. docs/own_networks.md shows how networks are made of them.
"""

from ..kernels import CONNECT
from .membrane_shortcut import MSBlock
from .network import Network
from .registry import MODELS, build_model, cifar_entry, event_entry, imagenet_entry
from .residual import Block, PlainBlock, ReLUBlock, SEWBlock, SpikingBlock
from .stream import stream
from .stream_state import StreamState, map_states

__all__ = [
    "CONNECT",
    "MODELS",
    "Block",
    "MSBlock",
    "Network",
    "PlainBlock",
    "ReLUBlock",
    "SEWBlock",
    "SpikingBlock",
    "StreamState",
    "build_model",
    "cifar_entry",
    "event_entry",
    "imagenet_entry",
    "map_states",
    "stream",
]
