"""Questions about layers and blocks: the one place in analysis that knows their classes."""

from ..kernels.connect import CONNECT
from ..models.layers import ConvNorm, ConvNormFire
from ..models.network import Network
from ..models.residual import Block, SEWBlock, SpikingBlock, branch_of_identity


def conv_layers(net: Network) -> dict[str, ConvNorm]:
    """Convolutions with their norms, those of shortcuts included, by name."""
    return {name: module for name, module in net.named_modules() if isinstance(module, ConvNorm)}


def spiking_layers(net: Network) -> dict[str, ConvNormFire]:
    return {name: layer for name, layer in conv_layers(net).items() if isinstance(layer, ConvNormFire)}


def last_layer(block: Block) -> ConvNormFire:
    assert isinstance(block.last, ConvNormFire), "spiking blocks end in spiking layers"
    return block.last


def last_layer_name(net: Network, block: str) -> str:
    return f"{block}.conv{len(net.blocks[block].branch)}"


def owning_block(net: Network, layer: str) -> str | None:
    return next((block for block in net.blocks if layer.startswith(f"{block}.")), None)


def has_shortcut(block: Block) -> bool:
    return isinstance(block, SEWBlock | SpikingBlock)


def shortcut_before_neurons(block: Block) -> bool:
    """Whether branch and shortcut are added before the last neurons fire, as in Spiking ResNet (E8)."""
    return isinstance(block, SpikingBlock)


def connect_name(block: Block) -> str | None:
    """How branch and shortcut are connected after the neurons, as in SEW ResNet (E7); None where they are not."""
    if not isinstance(block, SEWBlock):
        return None
    return next((name for name, function in CONNECT.items() if function is block.connect), "a function")


def identity_branch_value(block: Block) -> int | None:
    """The constant branch output, 0 or 1, that makes the block the identity; None where there is none."""
    if not isinstance(block, SEWBlock):
        return None
    try:
        return branch_of_identity(block.connect)
    except ValueError:
        return None
