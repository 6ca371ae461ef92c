"""A network before it has learnt: what its blocks fire, and how large the gradients are that reach them."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.layers import ConvNormFire
from ..models.network import Network


class BlockAtStart(NamedTuple):
    """A block of a network in training mode, for one batch.

    changes_shape:  whether its shortcut is a convolution: between two of those lie the identity mapping areas
    branch:         mean of A, the branch's last neurons; of Spiking and Plain blocks, the same neurons as the output's
    output:         mean of O
    gradient:       norm of dL/dS, S the block's input
    """

    name: str
    changes_shape: bool
    branch: float
    output: float
    gradient: float


def measure(net: Network, images: Tensor, labels: Tensor) -> list[BlockAtStart]:
    """Rates and gradients of all blocks, in the order of depth; the network is left as it was.

    Shapes:  images [N, C, H, W] or frames [T, N, C, H, W]; labels [N]
    Raises:  ValueError for a network that does not spike
    """
    if not net.spiking:
        raise ValueError("a ReLU network does not spike; build its spiking twin")
    blocks = net.blocks
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, float] = {}
    branches: dict[str, float] = {}
    hooks, buffers, training = [], [buffer.clone() for buffer in net.buffers()], net.training
    for name, block in blocks.items():
        layer = block.last
        assert isinstance(layer, ConvNormFire)
        layer.observe = lambda spikes, name=name: branches.__setitem__(name, float(spikes.detach().float().mean()))

        def note(_block: object, given: tuple[Tensor, ...], out: Tensor, name: str = name) -> None:
            inputs[name], outputs[name] = given[0], float(out.detach().float().mean())

        hooks.append(block.register_forward_hook(note))
    try:
        net.train()
        x = images.detach().requires_grad_()  # so that every block's input has a gradient
        loss = F.cross_entropy(net(x), labels)
        gradients = torch.autograd.grad(loss, list(inputs.values()))
    finally:
        for hook in hooks:
            hook.remove()
        for block in blocks.values():
            block.last.observe = None  # type: ignore[assignment]
        with torch.no_grad():
            for buffer, before in zip(net.buffers(), buffers, strict=True):
                buffer.copy_(before)
        net.train(training)
    return [
        BlockAtStart(name, block.shortcut is not None, branches[name], outputs[name], float(gradient.float().norm()))
        for (name, block), gradient in zip(blocks.items(), gradients, strict=True)
    ]


def identity_areas(blocks: list[BlockAtStart]) -> list[list[BlockAtStart]]:
    """The runs of blocks whose shortcut is the identity."""
    areas: list[list[BlockAtStart]] = [[]]
    for block in blocks:
        if block.changes_shape:
            areas.append([])
        else:
            areas[-1].append(block)
    return [area for area in areas if area]
