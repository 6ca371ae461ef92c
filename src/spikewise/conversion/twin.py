"""The spiking twin of a ReLU ResNet, given what a spike of each of its layers stands for (E18)."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..engine.build import weights_channels_last
from ..models.calls import is_watched
from ..models.converted import ScaledShortcut
from ..models.folding import fold_norms
from ..models.layers import ConvNorm, ConvNormReLU, MaxPool
from ..models.network import Network
from ..models.registry import MODELS, build_model
from ..models.residual import ReLUBlock
from ..models.resnet import ResNet


def relu_layers(net: Network) -> list[str]:
    """The names of the layers whose activations become firing rates, in the order in which they run."""
    return [name for name, layer in net.conv_layers.items() if isinstance(layer, ConvNormReLU)]


@torch.no_grad()
def with_thresholds(net: Network, thresholds: Mapping[str, float], *, T: int = 256, soft_reset: bool = True) -> Network:
    """The spiking twin of a ReLU network, in evaluation mode: IF neurons, norms folded, residual additions scaled.

    net:         a trained ReLU ResNet of `build_model`; it is left as it is
    thresholds:  of each layer of `relu_layers`, above 0: the activation at which its neurons fire at every step. A spike stands
                 for so much; currents are divided by it, so that the neurons' own threshold stays 1
    T:           time steps for which a still image is shown
    soft_reset:  whether a spike subtracts the threshold; else the membrane is put to 0, and what was above it is lost
    Raises:      ValueError for what cannot be converted, by the name of the layer
    Source:      E18; Rueckauer et al. 2017; Hu et al. 2018; Han et al. 2020
    """
    require_convertible(net)
    if missing := [name for name in relu_layers(net) if not thresholds.get(name, 0) > 0]:
        raise ValueError(f"{missing[0]}: its threshold is {thresholds.get(missing[0])}; give each layer a number above 0")
    folded = fold_norms(copy.deepcopy(net).double())
    options = {key: net.spec[key] for key in ("width", "stem", "pool") if net.spec.get(key) is not None}
    twin = build_model(
        f"converted_{net.spec['name']}",
        num_classes=net.num_classes,
        in_channels=net.in_channels,
        T=T,
        v_reset=None if soft_reset else 0.0,
        **options,
    ).double()
    twin.load_state_dict(folded.state_dict(), strict=False)  # all but the factors of its shortcuts
    rescale(twin, thresholds)
    twin.input_spec = net.input_spec
    return weights_channels_last(twin.to(net.head.weight.device, net.dtype)).eval()


def rescale(twin: Any, thresholds: Mapping[str, float]) -> None:
    """Count every current in thresholds of the neurons it goes to, and every spike as what it stands for."""
    incoming = thresholds["stem"]
    scale(twin.stem, 1.0, incoming)
    for name, block in twin.blocks.items():
        hidden = incoming
        for number, layer in enumerate(block.branch, start=1):
            own = thresholds[f"{name}.conv{number}"]
            scale(layer, hidden, own)
            hidden = own
        if isinstance(block.shortcut, ScaledShortcut):
            block.shortcut.factor.fill_(incoming / hidden)
        else:
            scale(block.shortcut, incoming, hidden)
        incoming = hidden
    twin.head.weight.mul_(incoming)


def scale(layer: ConvNorm, incoming: float, own: float) -> None:
    bias: Tensor = layer.conv.bias  # type: ignore[assignment]  # folded
    layer.conv.weight.mul_(incoming / own)
    bias.div_(own)


def require_convertible(net: Network) -> None:
    """Refuse what has no spiking twin, by the name of the layer.

    Raises:  ValueError
    """
    if not isinstance(net, ResNet) or net.spiking:
        what = "spikes already" if net.spiking else f"is a {type(net).__name__}"
        raise ValueError(f"this network {what}; conversion takes a trained ReLU ResNet, such as resnet20")
    kinds: dict[str, tuple[Any, type | tuple[type, ...]]] = {"stem": (net.stem, ConvNormReLU), "fc": (net.fc, nn.Linear)}
    for name, block in net.blocks.items():
        if type(block) is not ReLUBlock:
            raise ValueError(f"{name}: a {type(block).__name__} cannot be converted, only the blocks of resnet20 and the like")
        kinds |= {f"{name}.conv{number}": (layer, ConvNormReLU) for number, layer in enumerate(block.branch, start=1)}
        kinds[f"{name}.shortcut"] = (block.shortcut, (ConvNorm, type(None)))
    for name, (part, kind) in kinds.items():
        if type(part) not in (kind if isinstance(kind, tuple) else (kind,)):
            raise ValueError(f"{name}: a {type(part).__name__} cannot be converted")
    if isinstance(net.pool, MaxPool | nn.MaxPool2d):
        raise ValueError(
            "pool: the maximum of spikes is not the spikes of the maximum; train with average pooling (--model.pool avg), or "
            "with a stem that does not pool (--model.stem 3x3)"
        )
    if type(net.pool) not in (nn.AvgPool2d, nn.Identity):
        raise ValueError(f"pool: a {type(net.pool).__name__} cannot be converted")
    if watched := [name for name, module in net.named_modules() if is_watched(module)]:
        raise ValueError(f"{watched[0] or 'the network'}: hooks hang on it, which would be lost; take them off first")
    if f"converted_{net.spec.get('name')}" not in MODELS:
        known = ", ".join(name.removeprefix("converted_") for name in MODELS if name.startswith("converted_"))
        raise ValueError(f"{net.spec.get('name')!r} has no spiking twin in the table of models; convert one of {known}")
    fold_norms(net)  # refuses what has no fixed scale
