"""The networks we are compared with.

SpikingJelly is taken from PyPI, as it is: `pip install --no-deps spikingjelly==2.0.0 loguru h5py`. Its import asks for
torchvision and torchaudio, of which these benchmarks need nothing: placeholders stand in. A peer that does not import ends the
benchmark.
"""

import importlib.machinery
import sys
import types
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn


class Placeholder:
    """Finds any module of torchvision and torchaudio, each empty but for one name that is imported and never called."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] in ("torchvision", "torchaudio"):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        module.load_state_dict_from_url = None  # type: ignore[attr-defined]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run."""


def spikingjelly() -> types.SimpleNamespace:
    """The parts of SpikingJelly that are measured."""
    sys.meta_path.append(Placeholder())  # type: ignore[arg-type]
    from spikingjelly.activation_based import functional, layer, neuron, surrogate
    from spikingjelly.activation_based.model import sew_resnet

    return types.SimpleNamespace(functional=functional, layer=layer, neuron=neuron, surrogate=surrogate, sew_resnet=sew_resnet)


class SpikingJellySEW(nn.Module):
    """SpikingJelly's own SEW ResNet, multi-step, torch backend (its others need CUDA); a still image is repeated T times."""

    def __init__(self, depth: int, T: int):
        super().__init__()
        self.peer, self.T = spikingjelly(), T
        make = getattr(self.peer.sew_resnet, f"sew_resnet{depth}")
        self.net = make(
            pretrained=False,
            cnf="ADD",
            spiking_neuron=self.peer.neuron.IFNode,
            surrogate_function=self.peer.surrogate.ATan(),
            detach_reset=True,
        )
        self.peer.functional.set_step_mode(self.net, "m")

    def forward(self, images: Tensor) -> Tensor:
        self.peer.functional.reset_net(self.net)
        return self.net(images.expand(self.T, *images.shape)).mean(0)


class SpikingJelly7B(nn.Module):
    """7B-Net of SpikingJelly's layers: the published description, in its own building blocks."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.peer = spikingjelly()
        layer = self.peer.layer

        def conv_norm_fire(in_channels: int, out_channels: int, size: int) -> nn.Sequential:
            return nn.Sequential(
                layer.Conv2d(in_channels, out_channels, size, padding=size // 2, bias=False),
                layer.BatchNorm2d(out_channels),
                self.peer.neuron.ParametricLIFNode(
                    init_tau=2.0, detach_reset=True, surrogate_function=self.peer.surrogate.ATan()
                ),
            )

        self.stem = conv_norm_fire(2, 32, 1)
        self.branches = nn.ModuleList(nn.Sequential(conv_norm_fire(32, 32, 3), conv_norm_fire(32, 32, 3)) for _ in range(7))
        self.pool = layer.MaxPool2d(2, 2)
        self.head = nn.Linear(32, num_classes)
        self.peer.functional.set_step_mode(self, "m")

    def forward(self, frames: Tensor) -> Tensor:
        self.peer.functional.reset_net(self)
        x = self.stem(frames)
        for branch in self.branches:
            x = self.pool(branch(x) + x)
        return self.head(x.flatten(2).mean(0))


def fold(net: nn.Module) -> nn.Module:
    """Batch norm into the convolution before it, in evaluation; both sides of a comparison are folded by this."""
    for module in net.modules():
        children = list(module.named_children())
        for (_, conv), (name, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and conv.bias is None:
                with torch.no_grad():
                    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
                    conv.weight.mul_(scale[:, None, None, None])
                    conv.bias = nn.Parameter(norm.bias - norm.running_mean * scale)
                setattr(module, name, nn.Identity())
    return net
