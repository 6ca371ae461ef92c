"""Names in a network: of its convolutions and neurons, and of the block that these belong to."""

from torch import nn

from ..kernels.connect import CONNECT
from ..models.network import Network
from ..models.residual import Block

UNSAID = {"meets": "", "last_neurons": None, "last_norm": None}  # what blocks that do not say it have in its place


def convolutions(net: Network) -> dict[str, nn.Conv2d]:
    """Every convolution by its layer's name, or its own outside of layers, in blocks that users wrote."""
    return {name.removesuffix(".conv"): module for name, module in net.named_modules() if isinstance(module, nn.Conv2d)}


def last_neurons_name(net: Network, block: str) -> str | None:
    """The name of the block's last neurons, as `net.neurons` has it; None: the block does not tell."""
    last = net.blocks[block].last_neurons
    return next((name for name, module in net.named_modules() if module is last), None)


def owning_block(net: Network, layer: str) -> str | None:
    return next((block for block in net.blocks if layer.startswith(f"{block}.")), None)


def connect_name(block: Block) -> str | None:
    """How branch and shortcut are connected after the neurons (E7); None where they are not."""
    if block.connect is None:
        return None
    return next((name for name, function in CONNECT.items() if function is block.connect), "a function")


def unknown_parts(net: Network) -> dict[str, str]:
    """What analysis cannot look at, by block: modules in a block's place, and what blocks of a user's own do not say."""
    found = {}
    for stage_name, stage in net.named_children():
        members = stage if isinstance(stage, nn.ModuleList) else getattr(stage, "blocks", ())
        prefix = stage_name if isinstance(stage, nn.ModuleList) else f"{stage_name}.blocks"
        for position, block in enumerate(members):
            kind, name = type(block).__name__, f"{prefix}.{position}"
            if not isinstance(block, Block):
                found[name] = f"{kind} is no Block of spikewise.models.residual"
            elif missing := [word for word, unsaid in UNSAID.items() if getattr(block, word) == unsaid]:
                found[name] = f"{kind} does not say its {' and '.join(missing)}"
    return found
