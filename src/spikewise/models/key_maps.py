"""Tensor names: ours, those of the published networks, of SpikingJelly, and of torchvision, one to one.

Every rule is a table from a part of our name to the same part of theirs; a network's own structure says which parts there are.
"""

from collections.abc import Callable

from torch import nn

from .event_nets import EventNet
from .network import Network
from .residual import Block, SEWBlock, SpikingBlock
from .resnet import ResNet

Rename = Callable[[str], str]


def published_names(net: Network) -> dict[str, str]:
    """Our name -> the published one, for every tensor of `net`.

    Raises:  ValueError where the paper's authors published no network of this kind
    """
    if isinstance(net, ResNet):
        if (block := published_block(net)) is None:
            raise ValueError(
                f"{model_name(net)}: there are no published names for it, only for SEW and Spiking ResNet-18 to -152"
            )
        down = "downsample.0.module" if block is SEWBlock else "downsample.module"
        key_map = resnet_key_map(net, conv="{layer}.module.0", norm="{layer}.module.1", down=(f"{down}.0", f"{down}.1"))
    else:
        if not isinstance(net, EventNet):
            raise ValueError(f"{model_name(net)}: the paper's authors published no network of this kind")
        key_map = event_net_key_map(net)
    return map_state_dict_keys(net, key_map)


def torchvision_names(net: Network) -> dict[str, str]:
    """Our name -> torchvision's, for every tensor of an image network.

    Raises:  ValueError where torchvision has no network of this kind
    """
    if not isinstance(net, ResNet) or net.num_stages != 4:
        raise ValueError(f"{model_name(net)}: torchvision has no such network, only ResNet-18 to -152")
    return map_state_dict_keys(net, torchvision_key_map(net))


def spikingjelly_names(net: Network) -> dict[str, str]:
    """Our name -> that of SpikingJelly 0.0.0.0.14 and later, for every tensor of an image network.

    They are torchvision's, with the neurons' beside them: PLIF's time constants, of which torchvision knows none.
    Raises:  ValueError where SpikingJelly has no network of this kind
    """
    if not isinstance(net, ResNet) or (block := published_block(net)) is None:
        raise ValueError(f"{model_name(net)}: SpikingJelly has no such network, only SEW and Spiking ResNet-18 to -152")
    key_map = torchvision_key_map(net) | {"stem.neuron": "sn1"}
    for name in net.blocks:
        key_map |= {f"{name}.conv{number}.neuron": f"{name}.sn{number}" for number in (1, 2, 3)}
        key_map |= {f"{name}.shortcut.neuron": f"{name}.downsample_sn"} if block is SEWBlock else {}
    return map_state_dict_keys(net, key_map)


def published_block(net: ResNet) -> type[Block] | None:
    """Which of the two published kinds the blocks of an image network are; None: another, or of several kinds."""
    kinds = {type(block) for block in net.blocks.values()}
    return next((kind for kind in (SEWBlock, SpikingBlock) if kinds == {kind} and net.num_stages == 4), None)


def torchvision_key_map(net: ResNet) -> dict[str, str]:
    return resnet_key_map(net, conv="{layer}", norm="{bn}", down=("downsample.0", "downsample.1"))


def resnet_key_map(net: ResNet, *, conv: str, norm: str, down: tuple[str, str]) -> dict[str, str]:
    key_map = {"stem.conv": "conv1", "stem.norm": "bn1", "fc": "fc"}
    for name, block in net.blocks.items():
        for number in range(1, len(block.branch) + 1):
            words = {"layer": f"{name}.conv{number}", "bn": f"{name}.bn{number}"}
            key_map[f"{name}.conv{number}.conv"] = conv.format(**words)
            key_map[f"{name}.conv{number}.norm"] = norm.format(**words)
        key_map[f"{name}.shortcut.conv"], key_map[f"{name}.shortcut.norm"] = f"{name}.{down[0]}", f"{name}.{down[1]}"
    return key_map


def event_net_key_map(net: EventNet) -> dict[str, str]:
    """The published networks number through: one for a convolution, two for a block and its pool."""
    key_map, index = {"out": "out"}, 0
    for number, stage in enumerate(net.stages, start=1):
        key_map |= layer_key_map(f"stage{number}.widen", f"conv.{index}.0.module", f"conv.{index}.1")
        index += 1
        for position, block in enumerate(stage.blocks):
            ours, theirs = f"stage{number}.blocks.{position}", f"conv.{index}"
            key_map |= layer_key_map(f"{ours}.conv1", f"{theirs}.conv.0.0.module", f"{theirs}.conv.0.1")
            if isinstance(block, SpikingBlock):
                key_map |= layer_key_map(f"{ours}.conv2", f"{theirs}.conv.1.module", f"{theirs}.sn")
            else:
                key_map |= layer_key_map(f"{ours}.conv2", f"{theirs}.conv.1.0.module", f"{theirs}.conv.1.1")
            index += 2
    return key_map


def layer_key_map(ours: str, module: str, neuron: str) -> dict[str, str]:
    return {f"{ours}.conv": f"{module}.0", f"{ours}.norm": f"{module}.1", f"{ours}.neuron": neuron}


def map_state_dict_keys(net: nn.Module, key_map: dict[str, str]) -> dict[str, str]:
    """Rename every tensor by its module's part."""
    names = {}
    for ours in net.state_dict():
        module, _, tensor = ours.rpartition(".")
        if module not in key_map:
            raise ValueError(f"{model_name(net)}: {ours!r} has no counterpart under these names")
        names[ours] = f"{key_map[module]}.{tensor}"
    return names


def model_name(net: nn.Module) -> str:
    return str(getattr(net, "spec", {}).get("name", type(net).__name__))
