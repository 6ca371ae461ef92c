"""Firing rates and gradient norms of all blocks, for one batch in training mode."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.non_finite import BufferSnapshot
from ..models.network import Network
from ..models.recorder import record_activity, training_mode


class BlockStats(NamedTuple):
    """A block of a network in training mode, for one batch.

    has_projection:    whether its shortcut is a convolution; between those lie the identity mapping areas
    branch:            mean of A, the branch's last neurons; of Spiking and Plain blocks, also the output's; NaN: not known
    output:            mean of O, the block's output; NaN where it is a current, which has no rate
    grad_input_norm:   norm of dL/dS, S the block's input
    grad_output_norm:  norm of dL/dO
    """

    name: str
    has_projection: bool
    branch: float
    output: float
    grad_input_norm: float
    grad_output_norm: float


@contextmanager
def preserving_state(net: Network, *, training: bool) -> Iterator[None]:
    """Put the network in training or evaluation mode; on leaving, restore its modes and running statistics."""
    statistics = BufferSnapshot(net)  # copies them
    try:
        with training_mode(net, training=training):
            yield
    finally:
        statistics.restore()


def measure_blocks(net: Network, images: Tensor, labels: Tensor) -> list[BlockStats]:
    """Rates and gradients of all blocks, in the order of depth; the network is left as it was.

    Shapes:  images [N, C, H, W] or frames [T, N, C, H, W]; labels [N]
    Raises:  ValueError for a network that does not spike
    """
    with preserving_state(net, training=True), record_activity(net) as watches, torch.enable_grad():
        x = images.detach().requires_grad_()  # so that every block's input has a gradient
        torch.autograd.grad(F.cross_entropy(net(x), labels), x)
    blocks = []
    for name, block in net.blocks.items():
        watch = watches[name]
        branch, output = (float(rates.mean()) for rates in watch.rates())
        blocks.append(BlockStats(name, block.has_projection, branch, output, watch.gradient_in, watch.gradient_out))
    return blocks


def identity_areas(blocks: list[BlockStats]) -> list[list[BlockStats]]:
    """The runs of consecutive blocks whose shortcut is the identity."""
    areas: list[list[BlockStats]] = [[]]
    for block in blocks:
        if block.has_projection:
            areas.append([])
        else:
            areas[-1].append(block)
    return [area for area in areas if area]
