"""Names in a network: of a block's last layer, and of the block that a layer belongs to."""

from ..kernels.connect import CONNECT
from ..models.network import Network
from ..models.residual import Block


def last_layer_name(net: Network, block: str) -> str:
    return f"{block}.conv{len(net.blocks[block].branch)}"


def owning_block(net: Network, layer: str) -> str | None:
    return next((block for block in net.blocks if layer.startswith(f"{block}.")), None)


def connect_name(block: Block) -> str | None:
    """How branch and shortcut are connected after the neurons (E7); None where they are not."""
    if block.connect is None:
        return None
    return next((name for name, function in CONNECT.items() if function is block.connect), "a function")
