"""The exponential moving average of a network's weights, which is evaluated where a config asks for it."""

import torch
from torch import Tensor

from ..models import Network


def ema_weight(decay: float, step: int) -> float:
    """What the network of a step counts in the average: 1 - d.

    decay:  d, at least 0 and below 1; in the first steps (1 + step) / (10 + step) where that is smaller, so that the
            initial weights are soon forgotten
    step:   the step just done, counted from 0
    """
    return 1 - min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_ema(average: Network, net: Network, weight: float | Tensor) -> None:
    """Move every floating-point tensor of `average` towards that of `net`: average = (1 - weight) average + weight net.

    Running statistics of norms are averaged with the weights they belong to.
    """
    for ours, theirs in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        if ours.is_floating_point():
            ours.lerp_(theirs, weight.to(ours.dtype) if isinstance(weight, Tensor) else weight)
        else:
            ours.copy_(theirs)
