"""The moving average of a network's weights: what is evaluated, when a config asks for it."""

import torch

from ..models import Network


class Average:
    """A network whose every floating-point tensor follows another's: average = d average + (1 - d) original.

    Batch norm's running estimates are averaged with the weights they belong to.
    net:    a copy of the network that is followed
    decay:  d, at least 0 and below 1; in the first steps (1 + step) / (10 + step), where that is smaller, so that the
            fresh weights are soon forgotten
    """

    def __init__(self, net: Network, decay: float):
        self.net, self.decay = net, decay

    @torch.no_grad()
    def update(self, net: Network, step: int) -> None:
        """Follow `net` after step `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for ours, theirs in zip(self.net.state_dict().values(), net.state_dict().values(), strict=True):
            if ours.is_floating_point():
                ours.lerp_(theirs, 1 - decay)
            else:
                ours.copy_(theirs)
