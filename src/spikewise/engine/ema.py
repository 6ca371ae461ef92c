"""The exponential moving average of a network's weights, which is evaluated where a config asks for it."""

import torch

from ..models import Network


@torch.no_grad()
def update_ema(average: Network, net: Network, *, decay: float, step: int) -> None:
    """Move every floating-point tensor of `average` towards that of `net`: average = d average + (1 - d) net.

    Running statistics of norms are averaged with the weights they belong to.
    decay:  d, at least 0 and below 1; in the first steps (1 + step) / (10 + step) where that is smaller, so that the
            initial weights are soon forgotten
    step:   the step just done, counted from 0
    """
    decay = min(decay, (1 + step) / (10 + step))
    for ours, theirs in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        if ours.is_floating_point():
            ours.lerp_(theirs, 1 - decay)
        else:
            ours.copy_(theirs)
