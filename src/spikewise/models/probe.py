"""Firing rates by block, measured while a network runs."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from .layers import ConvNormFire
from .network import Network


class Rate(NamedTuple):
    """What a block fires, per neuron and time step.

    branch:  mean of A, the branch's last neurons: 0 to 1
    output:  mean of O, the block's output: above 1 only where ADD makes integers
    most:    the largest value of O that was seen
    """

    branch: float
    output: float
    most: float


class _Mean:
    """A running mean in float64."""

    def __init__(self) -> None:
        self.total, self.count, self.most = 0.0, 0, 0.0

    def add(self, values: Tensor) -> None:
        values = values.detach()
        self.total += float(values.float().sum(dtype=torch.float64 if values.device.type != "mps" else None))
        self.count += values.numel()
        self.most = max(self.most, float(values.max()))

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else float("nan")


@torch.no_grad()
def firing_rates(net: Network, batches: Iterable[Tensor]) -> dict[str, Rate]:
    """Firing rate of each block over some batches, in evaluation mode; the network is left as it was.

    Shapes:   batches of images [N, C, H, W] or frames [T, N, C, H, W]
    Returns:  name of the block -> Rate, in the order of depth
    Raises:   ValueError for a network that does not spike
    """
    if not net.spiking:
        raise ValueError("a ReLU network does not spike, so it has no firing rates")
    branch = {name: _Mean() for name in net.blocks}
    output = {name: _Mean() for name in net.blocks}
    training = net.training
    net.eval()
    try:
        with observed(net, branch, output):
            for batch in batches:
                net(batch)
    finally:
        net.train(training)
    return {name: Rate(branch[name].mean, output[name].mean, output[name].most) for name in net.blocks}


@contextmanager
def observed(net: Network, branch: dict[str, _Mean], output: dict[str, _Mean]) -> Iterator[None]:
    """While open, every block hands the spikes of its branch and its output to the means of its name."""
    with ExitStack() as stack:
        for name, block in net.blocks.items():
            assert isinstance(block.last, ConvNormFire), "spiking blocks end in spiking layers"
            block.last.observe = branch[name].add
            stack.callback(setattr, block.last, "observe", None)
            hook = block.register_forward_hook(lambda _module, _args, out, mean=output[name]: mean.add(out))
            stack.callback(hook.remove)
        yield
